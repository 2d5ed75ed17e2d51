//! A campaign in one file, without a server.

use rig::bench::NewApp;

#[test]
fn a_bundle_of_the_oem_is_installed() {
    e2e::on_bench(|bench| {
        let images = bench.pack(&NewApp::good("2.0.0", 2))?;
        bench.release_images("by-hand", &images)?;
        let image = images[0].to_string_lossy();
        let (status, said) = bench.ask_tcu(&["verify", &image])?;
        assert_eq!(status.code(), Some(3), "{said}");
        assert!(said["error"].as_str().unwrap().contains("not a bundle"));
        assert!(bench.install_bundle()?.success());
        let report = bench.finish("bundle")?;
        assert_eq!(report.campaign.state, "completed", "{}", report.table());
        for ecu in &report.ecus {
            let end = (ecu.state.as_str(), ecu.to.as_str());
            assert_eq!(end, ("sealed", "2.0.0"), "{}", report.table());
        }
        Ok(())
    });
}
