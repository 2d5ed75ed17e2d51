//! `tcu run`, as it is started in a vehicle.

use rig::bench::NewApp;

#[test]
fn a_poll_finds_the_campaign_and_installs_it() {
    e2e::on_bench(|bench| {
        let status = bench
            .poll_until_installed(|bench| bench.release("overnight", &NewApp::good("2.0.0", 2)))?;
        assert_eq!(status.code(), Some(0), "SIGTERM is an ordinary end");
        let report = bench.finish("daemon")?;
        assert_eq!(report.campaign.id, "overnight");
        for ecu in &report.ecus {
            let end = (ecu.state.as_str(), ecu.to.as_str());
            assert_eq!(end, ("sealed", "2.0.0"), "{}", report.table());
        }
        Ok(())
    });
}
