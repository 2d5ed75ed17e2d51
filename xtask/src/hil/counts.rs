//! What the cases counted, for machines.
//!
//! A case leaves `CASE.counts` in the shared folder: lines of a name and a number.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes the results of the last run and what its cases counted to `path`, as JSON.
///
/// # Errors
/// When a file cannot be read or written.
pub(super) fn write(path: &Path, share: &Path, seed: u64) -> Result<()> {
    let results = std::fs::read_to_string(share.join("results")).unwrap_or_default();
    let counts = |case: &str| {
        std::fs::read_to_string(share.join(format!("{case}.counts"))).unwrap_or_default()
    };
    std::fs::write(path, json(&results, counts, seed))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// `results` has lines of a case, `ok` or not, and seconds. The words in them are our own, so that
/// nothing needs to be escaped; what is no number is left out.
fn json(results: &str, counts: impl Fn(&str) -> String, seed: u64) -> String {
    let mut text = format!("{{\n  \"seed\": {seed},\n  \"cases\": [");
    let mut comma = "";
    for line in results.lines() {
        let [case, result, seconds] = line.split(' ').collect::<Vec<_>>()[..] else {
            continue;
        };
        let Ok(seconds) = seconds.parse::<u32>() else {
            continue;
        };
        let passed = result == "ok";
        let _ = write!(
            text,
            "{comma}\n    {{\"name\": \"{case}\", \"passed\": {passed}, \"seconds\": {seconds}"
        );
        for line in counts(case).lines() {
            if let Some((name, number)) = line.split_once(' ')
                && let Ok(number) = number.parse::<u64>()
            {
                let _ = write!(text, ", \"{name}\": {number}");
            }
        }
        text.push('}');
        comma = ",";
    }
    text + "\n  ]\n}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_counts_become_json() {
        let counts = |case: &str| match case {
            "kills" => "tcu_kills 3\necu_kills x\ncampaigns 2\n".to_owned(),
            _ => String::new(),
        };
        assert_eq!(
            json("kills ok 30\nservice FAILED 9\n", counts, 7),
            "{\n  \"seed\": 7,\n  \"cases\": [\n    \
             {\"name\": \"kills\", \"passed\": true, \"seconds\": 30, \"tcu_kills\": 3, \"campaigns\": 2},\n    \
             {\"name\": \"service\", \"passed\": false, \"seconds\": 9}\n  ]\n}\n"
        );
    }
}
