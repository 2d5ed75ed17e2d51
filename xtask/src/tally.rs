//! Counting tests in the closing lines of test runners.

use std::ops::AddAssign;

/// How many tests passed, failed and were not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) ignored: u32,
}

impl Tally {
    /// The counts in a closing line of `cargo test`
    /// (`test result: ok. 3 passed; 0 failed; 1 ignored; ...`); `None` for any other line.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut tally = Self::default();
        for count in counts.split("; ") {
            let mut words = count.split(' ');
            let number = words.next()?.parse().ok();
            match (words.next()?, number) {
                ("passed", Some(number)) => tally.passed = number,
                ("failed", Some(number)) => tally.failed = number,
                ("ignored", Some(number)) => tally.ignored = number,
                _ => {}
            }
        }
        Some(tally)
    }

    /// All tests that ran.
    pub(crate) fn ran(self) -> u32 {
        self.passed + self.failed
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closing_line_of_cargo_test_is_counted() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; \
                    3 filtered out; finished in 0.05s";
        let expected = Tally {
            passed: 12,
            failed: 2,
            ignored: 1,
        };
        assert_eq!(Tally::from_line(line), Some(expected));
        assert_eq!(expected.ran(), 14);
    }

    #[test]
    fn other_lines_are_not() {
        assert_eq!(Tally::from_line("running 3 tests"), None);
        assert_eq!(Tally::from_line("test result: none"), None);
        assert_eq!(Tally::from_line("test a::b ... ok"), None);
    }
}
