//! Sector maps, program granularity and datasheet timings.

use std::time::Duration;

/// A run of sectors of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Bytes per sector.
    pub sector_size: u32,
    /// Number of sectors.
    pub sectors: u32,
    /// Typical time of one sector erase, in microseconds.
    pub erase_micros: u32,
}

/// One sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sector {
    /// Position in the map, from 0.
    pub index: usize,
    /// Address of the first byte.
    pub start: u32,
    /// Bytes.
    pub size: u32,
    /// Typical time of its erase, in microseconds.
    pub erase_micros: u32,
}

impl Sector {
    /// Address after the last byte.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.start + self.size
    }
}

/// What a chip looks like to its driver. Reads have a granularity of one byte everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    regions: Vec<Region>,
    word: u32,
    burst: u32,
    burst_micros: u32,
    erased: u8,
    ecc: bool,
    bank: Option<u32>,
}

impl Geometry {
    /// A chip of `regions`, programmed in words of `word` bytes; each `burst` bytes (aligned, a
    /// multiple of the word) take `burst_micros`.
    ///
    /// `None` unless words are powers of two that divide bursts and sectors, and the whole is not
    /// empty and fits 31 bits.
    #[must_use]
    pub fn new(regions: Vec<Region>, word: u32, burst: u32, burst_micros: u32) -> Option<Self> {
        let aligned = |size: u32| size != 0 && size.is_multiple_of(word);
        let regular = word.is_power_of_two()
            && aligned(burst)
            && !regions.is_empty()
            && regions
                .iter()
                .all(|r| aligned(r.sector_size) && r.sectors != 0);
        let capacity: u64 = regions
            .iter()
            .map(|r| u64::from(r.sector_size) * u64::from(r.sectors))
            .sum();
        (regular && capacity < 1 << 31).then_some(Self {
            regions,
            word,
            burst,
            burst_micros,
            erased: 0xFF,
            ecc: false,
            bank: None,
        })
    }

    /// Uniform 4 KiB sectors, as serial NOR flash has them: 45 ms an erase, 0.4 ms a 256-byte page,
    /// 4-byte words. `capacity` is rounded up to a sector.
    #[must_use]
    pub fn uniform_4k(capacity: u32) -> Self {
        Self::uniform(capacity, 4096, 45_000, (4, 256, 400))
    }

    /// Four sectors of 16 KiB, one of 64 KiB and the rest of 128 KiB, as microcontrollers of the
    /// STM32F4 kind have them: 0.25, 0.55 and 1 s an erase, 16 µs a 4-byte word. `capacity` is
    /// rounded up to 128 KiB.
    #[must_use]
    pub fn mixed(capacity: u32) -> Self {
        const K: u32 = 1024;
        let region = |sector_size, sectors, erase_micros| Region {
            sector_size,
            sectors,
            erase_micros,
        };
        let mut regions = vec![region(16 * K, 4, 250_000), region(64 * K, 1, 550_000)];
        let large = capacity.saturating_sub(128 * K).div_ceil(128 * K);
        if large > 0 {
            regions.push(region(128 * K, large, 1_000_000));
        }
        Self {
            regions,
            word: 4,
            burst: 4,
            burst_micros: 16,
            erased: 0xFF,
            ecc: false,
            bank: None,
        }
    }

    /// 2 KiB pages programmed in 8-byte words, as microcontrollers of the STM32G4 kind have them:
    /// 22 ms an erase, 82 µs a word. They have ECC: see [`with_ecc`](Self::with_ecc).
    #[must_use]
    pub fn pages_2k_8(capacity: u32) -> Self {
        Self::uniform(capacity, 2048, 22_000, (8, 8, 82))
    }

    /// 2 KiB pages programmed in 32-byte words, as larger automotive microcontrollers have them:
    /// 8 ms an erase, 80 µs a word. They have ECC: see [`with_ecc`](Self::with_ecc).
    #[must_use]
    pub fn pages_2k_32(capacity: u32) -> Self {
        Self::uniform(capacity, 2048, 8_000, (32, 32, 80))
    }

    fn uniform(
        capacity: u32,
        sector_size: u32,
        erase_micros: u32,
        program: (u32, u32, u32),
    ) -> Self {
        Self {
            regions: vec![Region {
                sector_size,
                sectors: capacity.div_ceil(sector_size).max(1),
                erase_micros,
            }],
            word: program.0,
            burst: program.1,
            burst_micros: program.2,
            erased: 0xFF,
            ecc: false,
            bank: None,
        }
    }

    /// The same chip with other sector and word times, in microseconds; zero makes it instant.
    #[must_use]
    pub fn with_timing(mut self, erase_micros: u32, burst_micros: u32) -> Self {
        for region in &mut self.regions {
            region.erase_micros = erase_micros;
        }
        self.burst_micros = burst_micros;
        self
    }

    /// The same chip, the erased bytes of which read as `erased`: 0xFF, or 0x00 where a program
    /// sets bits.
    #[must_use]
    pub fn with_erased(mut self, erased: u8) -> Self {
        self.erased = erased;
        self
    }

    /// The same chip with an error-correcting code on each word: a word is programmed once, whatever
    /// the value, also 0xFF; one that a cut left neither as it was nor as it should be reads as an
    /// error. The code's power to correct is not modelled: no torn word reads right by it.
    #[must_use]
    pub fn with_ecc(mut self) -> Self {
        self.ecc = true;
        self
    }

    /// The same chip in banks of `bytes` bytes: while one is being erased or programmed, a read of
    /// it is a violation, and so is any other operation. Without banks a driver waits.
    #[must_use]
    pub fn with_banks(mut self, bytes: u32) -> Self {
        self.bank = Some(bytes.max(1));
        self
    }

    /// The value of an erased byte.
    #[must_use]
    pub const fn erased(&self) -> u8 {
        self.erased
    }

    /// Whether each word has an error-correcting code.
    #[must_use]
    pub const fn has_ecc(&self) -> bool {
        self.ecc
    }

    /// The bank that holds `addr`, as its number; `None` where reads are never forbidden.
    #[must_use]
    pub fn bank_of(&self, addr: u32) -> Option<u32> {
        self.bank.map(|bytes| addr / bytes)
    }

    /// Bytes of the whole chip.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.regions.iter().map(|r| r.sector_size * r.sectors).sum()
    }

    /// Bytes programmed at once: addresses and lengths are multiples of it.
    #[must_use]
    pub const fn word(&self) -> u32 {
        self.word
    }

    /// The regions in the order of their addresses.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The sector that holds `addr`, or `None` past the end.
    #[must_use]
    pub fn sector_of(&self, addr: u32) -> Option<Sector> {
        let (mut start, mut first) = (0u32, 0u32);
        for region in &self.regions {
            let size = region.sector_size * region.sectors;
            if addr - start < size {
                let nth = (addr - start) / region.sector_size;
                return Some(Sector {
                    index: (first + nth) as usize,
                    start: start + nth * region.sector_size,
                    size: region.sector_size,
                    erase_micros: region.erase_micros,
                });
            }
            start += size;
            first += region.sectors;
        }
        None
    }

    /// All sectors in the order of their addresses.
    pub fn sectors(&self) -> impl Iterator<Item = Sector> + '_ {
        std::iter::successors(self.sector_of(0), |sector| self.sector_of(sector.end()))
    }

    /// Time to erase the sector that holds `addr`; zero past the end.
    #[must_use]
    pub fn erase_time(&self, addr: u32) -> Duration {
        let micros = self.sector_of(addr).map_or(0, |sector| sector.erase_micros);
        Duration::from_micros(micros.into())
    }

    /// Time to program `len` bytes at `addr`: every burst that is touched costs its whole time.
    #[must_use]
    pub fn program_time(&self, addr: u32, len: u32) -> Duration {
        let end = u64::from(addr) + u64::from(len);
        let bursts = end.div_ceil(self.burst.into()) - u64::from(addr / self.burst);
        let bursts = if len == 0 { 0 } else { bursts };
        Duration::from_micros(bursts * u64::from(self.burst_micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn geometries() -> [Geometry; 4] {
        [
            Geometry::uniform_4k(64 << 10),
            Geometry::mixed(512 << 10),
            Geometry::pages_2k_8(64 << 10),
            Geometry::pages_2k_32(64 << 10),
        ]
    }

    #[test]
    fn sectors_cover_the_chip_without_gap() {
        for geometry in geometries() {
            let mut next = 0;
            for (index, sector) in geometry.sectors().enumerate() {
                assert_eq!((sector.start, sector.index), (next, index));
                next = sector.end();
            }
            assert_eq!(next, geometry.capacity());
            assert_eq!(geometry.sector_of(next), None);
        }
    }

    #[test]
    fn mixed_sectors_follow_the_data_sheet() {
        let sizes: Vec<u32> = Geometry::mixed(512 << 10)
            .sectors()
            .map(|s| s.size >> 10)
            .collect();
        assert_eq!(sizes, [16, 16, 16, 16, 64, 128, 128, 128]);
    }

    #[test]
    fn every_touched_burst_costs_its_time() {
        let geometry = Geometry::uniform_4k(4096);
        let micros = |addr, len| geometry.program_time(addr, len).as_micros();
        assert_eq!((micros(0, 256), micros(0, 4), micros(0, 0)), (400, 400, 0));
        assert_eq!(micros(252, 8), 800);
        assert_eq!(micros(0, 4096), 16 * 400);
        assert_eq!(geometry.erase_time(17).as_millis(), 45);
    }

    #[test]
    fn irregular_geometries_are_refused() {
        let region = Region {
            sector_size: 4096,
            sectors: 4,
            erase_micros: 1,
        };
        let new = |regions: &[Region], word, burst| Geometry::new(regions.to_vec(), word, burst, 1);
        assert!(new(&[region], 8, 64).is_some());
        assert!(new(&[], 8, 64).is_none());
        assert!(new(&[region], 0, 64).is_none());
        assert!(new(&[region], 12, 12).is_none());
        assert!(new(&[region], 8, 12).is_none());
        assert!(
            new(
                &[Region {
                    sectors: 1 << 20,
                    ..region
                }],
                8,
                8
            )
            .is_none()
        );
        assert!(
            new(
                &[Region {
                    sector_size: 4,
                    ..region
                }],
                8,
                8
            )
            .is_none()
        );
    }

    proptest! {
        #[test]
        fn every_address_lies_in_its_sector(which in 0usize..4, addr: u32) {
            let geometry = &geometries()[which];
            match geometry.sector_of(addr) {
                Some(sector) => prop_assert!(sector.start <= addr && addr < sector.end()),
                None => prop_assert!(addr >= geometry.capacity()),
            }
        }
    }
}
