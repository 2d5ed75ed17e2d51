//! From a plan to the first ECU: the wait at the desk, after which what was planned may be old, and the
//! time in which a campaign has been begun at the desk and not yet in the journal.

use std::time::Duration;

use crate::desk::Desk;
use crate::engine::Plan;
use crate::error::Error;

/// So old may be what was verified and what the ECUs said when a campaign begins.
const FRESH: Duration = Duration::from_secs(300);

/// Waits until the campaign may be installed. After a long wait metadata may have expired, or others
/// be there, and the ECUs may have changed: `again` verifies and plans anew then, and what that makes
/// is admitted. A plan with nothing to do needs no leave. `clock` is of any origin.
///
/// # Errors
///
/// Those of [`Desk::wait`] and of `again`.
pub(crate) async fn wait(
    desk: &Desk,
    mut plan: Plan,
    clock: impl Fn() -> Duration,
    mut again: impl AsyncFnMut() -> Result<Plan, Error>,
) -> Result<Plan, Error> {
    let _waits = Waits(desk);
    loop {
        let planned = clock();
        desk.wait(&plan).await?;
        if clock().saturating_sub(planned) < FRESH {
            return Ok(plan);
        }
        plan = again().await?;
        if plan.has_nothing_to_do() {
            return Ok(plan);
        }
    }
}

/// A campaign at the desk. When it waits no more, also because whoever drives it drops it, it is not
/// on offer any more.
struct Waits<'d>(&'d Desk);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.abandon(&"it waits no more");
    }
}

/// A campaign that has begun at the desk. Where it does not get into the journal, the desk hears of
/// it, also if whoever drives it drops it.
pub(crate) struct Started<'d>(Option<&'d Desk>);

impl<'d> Started<'d> {
    /// Records that the campaign begins.
    ///
    /// # Errors
    ///
    /// Those of [`Desk::start`].
    pub(crate) fn new(desk: &'d Desk, plan: &Plan) -> Result<Self, Error> {
        desk.start(plan)?;
        Ok(Self(Some(desk)))
    }

    /// The journal has it.
    pub(crate) fn goes_on(mut self) {
        self.0 = None;
    }

    /// It has failed before that.
    pub(crate) fn ends(mut self, error: &Error) {
        self.0
            .take()
            .into_iter()
            .for_each(|desk| desk.abandon(error));
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        let desk = self.0.take().into_iter();
        desk.for_each(|desk| desk.abandon(&"it was given up before an ECU was touched"));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;
    use crate::board::Board;
    use crate::engine::Permit;
    use crate::policy::Rules;
    use crate::state::State;
    use crate::testing::world::World;
    use crate::vehicle::Control;

    struct Bench {
        _dir: tempfile::TempDir,
        desk: Desk,
    }

    /// A desk that admits everything, once the preconditions do.
    fn bench() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let (control, _) = watch::channel(Control::default());
        let board = Arc::new(Board::new());
        let desk = Desk::new(&state, Rules::default(), "test".into(), control, board);
        Bench {
            _dir: dir,
            desk: desk.unwrap(),
        }
    }

    fn plan(campaign: &str, unchanged: bool) -> Plan {
        let mut plan = World::new(1).plan();
        plan.campaign = campaign.into();
        plan.ecus[0].unchanged = unchanged;
        plan
    }

    fn nothing() -> Permit {
        Permit {
            stage: false,
            activate: false,
        }
    }

    fn permit(desk: &Desk, permit: Permit) {
        desk.permit(permit, serde_json::Value::Null, "");
    }

    /// How often a campaign was planned again that had to wait for its preconditions so long.
    async fn planned_again(wait_s: u64, result: Result<Plan, Error>) -> (Result<Plan, Error>, u32) {
        let bench = bench();
        let desk = &bench.desk;
        permit(desk, nothing());
        let (mut times, mut result) = (0, Some(result));
        let again = async || {
            times += 1;
            result.take().unwrap()
        };
        let clock = Cell::new(Duration::ZERO);
        let admitted = wait(desk, plan("spring", false), || clock.get(), again);
        let waited = async {
            clock.set(Duration::from_secs(wait_s));
            permit(desk, Permit::ALL);
        };
        let (admitted, ()) = tokio::join!(admitted, waited);
        assert!(desk.on_offer().is_none(), "it waits no more");
        (admitted, times)
    }

    #[tokio::test]
    async fn what_waited_for_long_is_verified_and_planned_again() {
        let (plan_of, times) = planned_again(200, Ok(plan("summer", false))).await;
        assert_eq!((plan_of.unwrap().campaign.as_str(), times), ("spring", 0));
        let (plan_of, times) = planned_again(400, Ok(plan("summer", false))).await;
        assert_eq!((plan_of.unwrap().campaign.as_str(), times), ("summer", 1));
        let (plan_of, times) = planned_again(400, Ok(plan("spring", true))).await;
        assert!(plan_of.unwrap().has_nothing_to_do() && times == 1);
        let expired = Error::Refused("expired".into());
        let (refused, times) = planned_again(400, Err(expired)).await;
        assert!(matches!(refused, Err(Error::Refused(_))) && times == 1);
    }

    #[tokio::test]
    async fn what_is_dropped_before_it_is_in_the_journal_is_not_being_installed() {
        let bench = bench();
        let plan = plan("spring", false);
        let refuses = |desk: &Desk| desk.may_upload().is_err();
        let started = Started::new(&bench.desk, &plan).unwrap();
        assert!(refuses(&bench.desk));
        drop(started);
        assert!(!refuses(&bench.desk));
        Started::new(&bench.desk, &plan).unwrap().goes_on();
        assert!(refuses(&bench.desk), "it is");
    }
}
