//! Before anything is sent an ECU is asked who it is and what it runs.

use rig::bench::NewApp;
use rig::vehicle::Exchanged;

#[test]
fn an_ecu_of_another_serial_gets_nothing_and_neither_do_the_others() {
    e2e::on_bench(|bench| {
        bench.exchange("steering", Exchanged::Serial("SN-steering-0002"))?;
        bench.release("exchanged", &NewApp::good("2.0.0", 2))?;
        bench.install()?;
        assert_eq!(bench.last_campaign().unwrap().state, "rejected");
        assert!(
            bench
                .versions_now()?
                .iter()
                .all(|version| version == "1.0.0")
        );
        e2e::assert_no_transfer(&bench.finish("exchanged")?);
        Ok(())
    });
}

#[test]
fn an_image_that_runs_already_is_not_sent_again() {
    e2e::on_bench(|bench| {
        let images = bench.pack(&NewApp::good("2.0.0", 2))?;
        for (campaign, sends) in [("first", true), ("again", false)] {
            bench.release_images(campaign, &images)?;
            bench.install()?;
            assert_eq!(bench.last_campaign().unwrap().state, "completed");
            assert!(
                bench
                    .versions_now()?
                    .iter()
                    .all(|version| version == "2.0.0")
            );
            for ecu in &bench.finish(campaign)?.ecus {
                assert_eq!(ecu.bytes > 0, sends, "{campaign}: {} bytes", ecu.bytes);
            }
        }
        Ok(())
    });
}
