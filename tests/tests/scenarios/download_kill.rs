//! The TCU is killed while it downloads.

use rig::bench::NewApp;

#[test]
fn a_killed_tcu_asks_for_the_rest_of_the_image_alone() {
    e2e::on_bench(|bench| {
        bench.release("long", &NewApp::good("2.0.0", 2))?;
        let part = bench.kill_tcu_while_downloading()?;
        assert!(bench.install()?.success());
        let mut begun = bench.downloads().iter();
        let begun = begun.find(|begun| begun.artifact == part.artifact);
        let begun = begun.expect("it was not complete").have;
        assert!((part.have..part.of).contains(&begun), "{begun}: {part:?}");
        let report = bench.finish("download-kill")?;
        assert_eq!(report.campaign.state, "completed", "{}", report.table());
        Ok(())
    });
}
