//! `cargo xtask test`: the parts one after the other, their times, and the table at the end.

use std::time::{Duration, Instant};

use anyhow::{Error, Result, bail};
use clap::ValueEnum;

use crate::parts::Part;
use crate::tally::Tally;

/// A part that takes longer than its budget times this has failed.
const FAR: u32 = 3;

/// What became of one part.
#[derive(Debug)]
struct Done {
    part: Part,
    took: Duration,
    tally: Tally,
    error: Option<Error>,
}

/// Runs `parts` (all if empty) in their order; the guest not if `no_hil`.
///
/// A failed part does not stop the others, except that nothing runs without its packages.
///
/// # Errors
/// When a part failed; the table says which.
pub(crate) fn run(parts: &[Part], no_hil: bool) -> Result<()> {
    let chosen = |part: &Part| parts.is_empty() || parts.contains(part);
    let mut done = Vec::new();
    for part in Part::value_variants().iter().copied().filter(chosen) {
        if part == Part::Guest && no_hil {
            println!("\n== guest: left out (--no-hil)");
            continue;
        }
        let outcome = run_part(part, !no_hil);
        let stop = part == Part::Packages && outcome.error.is_some();
        done.push(outcome);
        if stop {
            break;
        }
    }
    println!("\n{}", table(&done));
    if no_hil {
        println!("Without the Linux guest (--no-hil): nothing here ran on the kernel's own CAN.");
    }
    let failed: Vec<_> = done.iter().filter(|done| done.error.is_some()).collect();
    for Done { part, error, .. } in &failed {
        if let Some(error) = error {
            println!("{}: {error:#}", name(*part));
        }
    }
    let total = total(&done);
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.ignored
    );
    if !failed.is_empty() {
        bail!("{} of {} parts failed", failed.len(), done.len());
    }
    Ok(())
}

fn run_part(part: Part, hil: bool) -> Done {
    let budget = Duration::from_secs(part.budget_s());
    println!("\n== {} (budget {} s)", name(part), budget.as_secs());
    let start = Instant::now();
    let mut tally = Tally::default();
    let result = part.run(hil, start + budget * FAR, &mut tally);
    let took = start.elapsed();
    let error = result.err().or_else(|| too_slow(took, budget));
    if let Some(error) = &error {
        println!("== {} FAILED: {error:#}", name(part));
    }
    Done {
        part,
        took,
        tally,
        error,
    }
}

fn too_slow(took: Duration, budget: Duration) -> Option<Error> {
    (took > budget * FAR)
        .then(|| anyhow::anyhow!("took {} s, {FAR} times its budget or more", took.as_secs()))
}

fn name(part: Part) -> String {
    part.to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

fn total(done: &[Done]) -> Tally {
    let mut total = Tally::default();
    for part in done {
        total += part.tally;
        // A part without tests counts as one failure when it fails: the closing line must say so.
        if part.error.is_some() && part.tally.failed == 0 {
            total.failed += 1;
        }
    }
    total
}

fn table(done: &[Done]) -> String {
    let mut text = format!(
        "{:10}{:>9}{:>9}{:>8}  result\n",
        "part", "seconds", "budget", "tests"
    );
    for Done {
        part,
        took,
        tally,
        error,
    } in done
    {
        let budget = part.budget_s();
        let result = match error {
            Some(_) => "FAILED",
            None if took.as_secs() > budget => "ok, over budget",
            None => "ok",
        };
        let (name, seconds, ran) = (name(*part), took.as_secs_f64(), tally.ran());
        text += &format!("{name:10}{seconds:>9.1}{budget:>9}{ran:>8}  {result}\n");
    }
    let seconds: f64 = done.iter().map(|done| done.took.as_secs_f64()).sum();
    let budget: u64 = done.iter().map(|done| done.part.budget_s()).sum();
    let ran: u32 = done.iter().map(|done| done.tally.ran()).sum();
    text + &format!("{:10}{seconds:>9.1}{budget:>9}{ran:>8}", "all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_a_row_for_each_part() {
        let guide = crate::paths::root().join("docs/guide/contributor.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        for part in Part::value_variants() {
            let row = format!("\n| `{}` | ", name(*part));
            assert!(guide.contains(&row), "{row}");
        }
    }

    fn done(part: Part, seconds: u64, failed: bool) -> Done {
        Done {
            part,
            took: Duration::from_secs(seconds),
            tally: Tally {
                passed: 3,
                failed: 0,
                ignored: 1,
            },
            error: failed.then(|| anyhow::anyhow!("broken")),
        }
    }

    #[test]
    fn the_table_has_a_line_per_part_and_the_sums() {
        let text = table(&[done(Part::Fmt, 11, false), done(Part::Unit, 400, true)]);
        let lines: Vec<Vec<_>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let expected: Vec<Vec<&str>> = vec![
            vec!["part", "seconds", "budget", "tests", "result"],
            vec!["fmt", "11.0", "10", "3", "ok,", "over", "budget"],
            vec!["unit", "400.0", "420", "3", "FAILED"],
            vec!["all", "411.0", "430", "6"],
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_failed_part_is_never_counted_as_no_failure() {
        assert_eq!(total(&[done(Part::Clippy, 1, true)]).failed, 1);
        assert_eq!(total(&[done(Part::Clippy, 1, false)]).failed, 0);
    }

    #[test]
    fn thrice_the_budget_is_failure() {
        let budget = Duration::from_secs(10);
        assert!(too_slow(Duration::from_secs(31), budget).is_some());
        assert!(too_slow(Duration::from_secs(30), budget).is_none());
    }
}
