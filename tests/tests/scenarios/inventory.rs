//! `tcu inventory`: what every ECU says it is.

#[test]
fn every_ecu_says_what_it_is_and_what_it_runs() {
    e2e::on_bench(|bench| {
        let (status, said) = bench.ask_tcu(&["inventory"])?;
        assert!(status.success(), "{said}");
        let ecus = said["ecus"].as_array().unwrap();
        assert_eq!(ecus.len(), bench.ecus().len());
        for (spec, ecu) in bench.ecus().iter().zip(ecus) {
            assert_eq!(ecu["name"], spec.name);
            assert_eq!(ecu["hardware"], spec.hardware_id);
            assert_eq!(ecu["version"], "1.0.0", "{ecu}");
            assert!(ecu["error"].is_null(), "{ecu}");
            assert_eq!(ecu["image"].as_str().unwrap().len(), 64, "{ecu}");
            assert!(!ecu["serial"].as_str().unwrap().is_empty());
        }
        Ok(())
    });
}
