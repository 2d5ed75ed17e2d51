//! The bench's vehicle: six ECUs of three hardware types on two buses.

use serde::Serialize;

/// One bus of the bench.
#[derive(Debug, Clone, Copy)]
pub struct BusSpec {
    /// Its name in the vehicle.
    pub name: &'static str,
    /// Nominal bit rate, bit/s.
    pub bitrate: u32,
    /// Bit rate of the data phase, bit/s, on a CAN FD bus.
    pub data_bitrate: Option<u32>,
}

/// One ECU of the bench.
#[derive(Debug, Clone, Copy)]
pub struct EcuSpec {
    /// Its name in the vehicle.
    pub name: &'static str,
    /// The bus it is on.
    pub bus: &'static str,
    /// Its hardware id.
    pub hardware_id: &'static str,
    /// CAN id of physical requests; the response id is 8 higher, as ISO 15765-4 has it.
    pub request_id: u16,
    /// CAN id of the heartbeat frame of its application.
    pub heartbeat_id: u16,
}

impl EcuSpec {
    /// CAN id of responses.
    #[must_use]
    pub const fn response_id(&self) -> u16 {
        self.request_id + 8
    }

    /// The serial number that it is provisioned with.
    #[must_use]
    pub fn serial(&self) -> String {
        format!("SN-{}-0001", self.name)
    }
}

/// A classical bus at 500 kbit/s and a CAN FD bus at 500 kbit/s and 2 Mbit/s.
pub const BUSES: [BusSpec; 2] = [
    BusSpec {
        name: "chassis",
        bitrate: 500_000,
        data_bitrate: None,
    },
    BusSpec {
        name: "body",
        bitrate: 500_000,
        data_bitrate: Some(2_000_000),
    },
];

/// How many ECUs the vehicle of the scenarios has, three on each bus.
pub const USUAL: usize = 6;

/// Every ECU there may be: those of the scenarios, then more for a vehicle of up to sixteen.
pub const ECUS: [EcuSpec; 16] = [
    ecu("brake-front", "chassis", "bcu-r2", 0x7E0, 0x510),
    ecu("brake-rear", "chassis", "bcu-r2", 0x7E1, 0x511),
    ecu("steering", "chassis", "eps-r1", 0x7E2, 0x512),
    ecu("door-left", "body", "dcu-r3", 0x7E3, 0x513),
    ecu("door-right", "body", "dcu-r3", 0x7E4, 0x514),
    ecu("door-rear", "body", "dcu-r3", 0x7E5, 0x515),
    ecu("axle-front", "chassis", "bcu-r2", 0x700, 0x516),
    ecu("axle-rear", "chassis", "bcu-r2", 0x701, 0x517),
    ecu("damper-front", "chassis", "eps-r1", 0x702, 0x518),
    ecu("damper-rear", "chassis", "eps-r1", 0x703, 0x519),
    ecu("pump", "chassis", "bcu-r2", 0x704, 0x51A),
    ecu("seat-left", "body", "dcu-r3", 0x705, 0x51B),
    ecu("seat-right", "body", "dcu-r3", 0x706, 0x51C),
    ecu("roof", "body", "dcu-r3", 0x707, 0x51D),
    ecu("light-left", "body", "dcu-r3", 0x710, 0x51E),
    ecu("light-right", "body", "dcu-r3", 0x711, 0x51F),
];

/// The functional request id of every ECU.
pub const FUNCTIONAL_ID: u16 = 0x7DF;

/// The bench's vehicle identification number.
pub const VIN: &str = "WCANEPUS000000001";

/// The vehicle that an exchanged ECU comes from.
pub const EXCHANGED_VIN: &str = "WCANEPUS000000002";

const fn ecu(
    name: &'static str,
    bus: &'static str,
    hardware_id: &'static str,
    request_id: u16,
    heartbeat_id: u16,
) -> EcuSpec {
    EcuSpec {
        name,
        bus,
        hardware_id,
        request_id,
        heartbeat_id,
    }
}

/// The hardware types on the bench, each once.
#[must_use]
pub fn hardware_ids() -> Vec<&'static str> {
    let mut ids = Vec::new();
    for ecu in &ECUS {
        if !ids.contains(&ecu.hardware_id) {
            ids.push(ecu.hardware_id);
        }
    }
    ids
}

/// What `oem vehicle add --spec` reads.
#[derive(Debug, Serialize)]
pub struct VehicleSpec {
    vin: &'static str,
    buses: Vec<BusEntry>,
    ecus: Vec<EcuEntry>,
}

#[derive(Debug, Serialize)]
struct BusEntry {
    name: &'static str,
    link: String,
    fd: bool,
    bitrate: u32,
    data_bitrate: Option<u32>,
}

#[derive(Debug, Serialize)]
struct EcuEntry {
    name: &'static str,
    bus: &'static str,
    serial: String,
    hardware_id: &'static str,
    request_id: String,
    response_id: String,
    functional_id: String,
    heartbeat_id: String,
    floor: u32,
}

/// The vehicle over `links`, one per bus in the order of [`BUSES`]; every ECU is provisioned with
/// the security counter `floor`.
#[must_use]
pub fn spec(ecus: &[EcuSpec], links: &[String], floor: u32) -> VehicleSpec {
    spec_of(VIN, ecus, links, floor)
}

/// What is different about an ECU that took the place of another, besides its keys.
#[derive(Debug, Clone, Copy)]
pub enum Exchanged {
    /// It is of another type.
    Hardware(&'static str),
    /// It has another serial number, as any ECU has.
    Serial(&'static str),
}

/// Another vehicle, whose ECU `name` is different and comes with keys of its own.
#[must_use]
pub fn exchanged(links: &[String], floor: u32, name: &str, exchanged: Exchanged) -> VehicleSpec {
    let ecus = ECUS.get(..USUAL).unwrap_or(&ECUS);
    let mut spec = spec_of(EXCHANGED_VIN, ecus, links, floor);
    for ecu in spec.ecus.iter_mut().filter(|ecu| ecu.name == name) {
        match exchanged {
            Exchanged::Hardware(hardware_id) => ecu.hardware_id = hardware_id,
            Exchanged::Serial(serial) => ecu.serial = serial.to_owned(),
        }
    }
    spec
}

fn spec_of(vin: &'static str, ecus: &[EcuSpec], links: &[String], floor: u32) -> VehicleSpec {
    VehicleSpec {
        vin,
        buses: BUSES
            .iter()
            .zip(links)
            .map(|(bus, link)| BusEntry {
                name: bus.name,
                link: link.clone(),
                fd: bus.data_bitrate.is_some(),
                bitrate: bus.bitrate,
                data_bitrate: bus.data_bitrate,
            })
            .collect(),
        ecus: ecus
            .iter()
            .map(|ecu| EcuEntry {
                name: ecu.name,
                bus: ecu.bus,
                serial: ecu.serial(),
                hardware_id: ecu.hardware_id,
                request_id: format!("{:03X}", ecu.request_id),
                response_id: format!("{:03X}", ecu.response_id()),
                functional_id: format!("{FUNCTIONAL_ID:03X}"),
                heartbeat_id: format!("{:03X}", ecu.heartbeat_id),
                floor,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_bench_has_three_hardware_types_and_unique_ids() {
        assert_eq!(hardware_ids().len(), 3);
        let ids: HashSet<u16> = ECUS
            .iter()
            .flat_map(|ecu| [ecu.request_id, ecu.response_id(), ecu.heartbeat_id])
            .collect();
        assert_eq!(ids.len(), 3 * ECUS.len());
    }
}
