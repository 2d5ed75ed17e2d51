//! A desk whose keys of ECUs and images are in a vault: what it can still do, and what the vault refuses.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, thread::JoinHandle};

use crate::common::*;
use crate::release::refused;
use axum_server::Handle;
use campaign::ids::{EcuName, SequenceNumber};
use ecu_image::{GRANT_LEN, Grant, GrantFlags, provision::EcuProvisioning};
use oem::{
    Error, ExitCode,
    image::Image,
    manifest,
    release::release,
    repo::Repo,
    vault::{self, Ask, Granted, PartOptions},
    vehicle,
};
use reqwest::{Certificate, Client, Identity};
use serde_json::Value;

/// A desk, and the vault that it was parted from, which answers.
struct Vault {
    desk: Desk,
    stop: Handle<SocketAddr>,
    server: Option<JoinHandle<Result<(), Error>>>,
    url: String,
}

fn options(desk: &Desk) -> PartOptions {
    PartOptions {
        store: desk.path("vault"),
        url: "https://127.0.0.1:1".parse().unwrap(),
    }
}

impl Vault {
    /// Parts the desk as it stands.
    fn of(desk: Desk) -> Self {
        vault::part(&desk.repo(), &options(&desk)).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let server = vault::service::bind(&desk.path("vault"), address).unwrap();
        let (stop, url) = (server.handle(), server.url());
        // The port was not known before.
        let name = desk.path("repo/keys/vault/address.json");
        fs::write(name, Value::from(url.as_str()).to_string()).unwrap();
        let run = move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(server.run())
        };
        Self {
            desk,
            stop,
            server: Some(std::thread::spawn(run)),
            url,
        }
    }

    fn repo(&self) -> Repo {
        Repo::open(&self.desk.path("vault")).unwrap()
    }

    fn end(&mut self) {
        self.stop.shutdown();
        if let Some(server) = self.server.take() {
            server.join().unwrap().unwrap();
        }
    }

    /// One grant, as a desk asks for it that keeps no rule.
    fn ask(&self, ecu: &str, image: &Image, downgrade: bool) -> Result<Granted, Error> {
        self.ask_for(ecu, image, downgrade, None)
    }

    fn ask_for(
        &self,
        ecu: &str,
        image: &Image,
        downgrade: bool,
        sequence: Option<u64>,
    ) -> Result<Granted, Error> {
        let repo = self.desk.repo();
        let ecu: EcuName = ecu.parse().unwrap();
        let ask = Ask {
            ecu: &ecu,
            image,
            sequence: sequence.map(SequenceNumber),
            flags: GrantFlags { downgrade },
        };
        let mut record = repo.vehicle(&vin()).unwrap();
        let granted = vault::holder(&repo)?.grants(&mut record, &[ask])?;
        Ok(granted[0])
    }

    fn load(&self, image: &Path) -> Image {
        Image::load(&self.desk.repo(), image).unwrap()
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.stop.shutdown();
    }
}

fn provisioning(desk: &Desk, ecu: &str) -> EcuProvisioning {
    let bytes = fs::read(desk.path(&format!("out/ecus/{ecu}.json"))).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The secrets of the ECUs and of the images at the desk, in hexadecimal, by where they were found.
fn secrets(desk: &Desk) -> BTreeMap<String, String> {
    let mut secrets = BTreeMap::new();
    for ecu in ["door", "brake"] {
        let text = fs::read(desk.path(&format!("out/ecus/{ecu}.json"))).unwrap();
        let value: Value = serde_json::from_slice(&text).unwrap();
        for name in ["wrap_key", "grant_key", "journal_key"] {
            secrets.insert(
                format!("{ecu} {name}"),
                value[name].as_str().unwrap().into(),
            );
        }
    }
    for (path, bytes) in desk.files("repo/keys/images") {
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let key = value["content_key"].as_str().unwrap();
        secrets.insert(path.display().to_string(), key.into());
    }
    secrets
}

#[test]
fn a_parted_desk_has_no_key_of_an_ecu_or_an_image() {
    let desk = Desk::new();
    desk.pack("hw-a", "1.0.0", 4);
    let secrets = secrets(&desk);
    assert_eq!(secrets.len(), 7, "{:?}", secrets.keys());
    let found = |folder: &str| -> Vec<&String> {
        let texts: Vec<_> = desk.files(folder).into_iter().map(|it| it.1).collect();
        let texts: Vec<_> = texts.iter().map(|it| String::from_utf8_lossy(it)).collect();
        let here = |secret: &&String| texts.iter().any(|text| text.contains(secret.as_str()));
        secrets.values().filter(here).collect()
    };
    assert_eq!(found("repo").len(), secrets.len());
    let parted = vault::part(&desk.repo(), &options(&desk)).unwrap();
    assert_eq!((parted.vehicles, parted.images), (1, 1));
    assert_eq!(found("repo"), Vec::<&String>::new());
    assert_eq!(found("vault").len(), secrets.len());
}

#[test]
fn a_release_with_the_vaults_grants_is_believed_and_its_ecus_are_heard() {
    let vault = Vault::of(Desk::new());
    let desk = &vault.desk;
    let images = [desk.pack("hw-a", "1.2.3", 4), desk.pack("hw-b", "2.0.0", 1)];
    desk.release("spring", &images).unwrap();
    desk.release("summer", &images).unwrap();
    let campaign = crate::release::verify(desk).unwrap();
    assert_eq!(campaign.ecus.len(), 2);
    for target in &campaign.ecus {
        let ecu = provisioning(desk, target.ecu.as_str());
        let bytes: &[u8; GRANT_LEN] = target.grant.as_slice().try_into().unwrap();
        assert!(ecu.grant_key.verify_grant(bytes));
        let grant = Grant::parse(bytes).unwrap();
        assert_eq!(grant.sequence, SequenceNumber(2));
        let (key, salt) = ecu.wrap_key.unwrap(&grant.wrapped).unwrap();
        let kept = vault.repo().image_secrets(&target.image_digest).unwrap();
        assert_eq!((kept.content_key, kept.salt), (key, salt));
    }
    let nonce = manifest::nonce(&desk.repo(), &vin(), now()).unwrap();
    let said = crate::manifest::honest(desk, &nonce);
    let known = manifest::accept(&desk.repo(), &vin(), &said, now()).unwrap();
    assert_eq!(known.installed.len(), 2);
    // Who granted what is in the vault's own record.
    let entries = oem::audit::read(&vault.repo()).unwrap().entries;
    let grants = entries
        .iter()
        .filter(|entry| entry.body["what"] == "grants");
    assert_eq!(grants.count(), 2);
}

#[test]
fn an_ecus_words_in_anothers_mouth_are_no_more_believed_than_before() {
    let vault = Vault::of(Desk::new());
    let repo = vault.desk.repo();
    let nonce = manifest::nonce(&repo, &vin(), now()).unwrap();
    let forged = crate::manifest::forged(&vault.desk, &nonce);
    let error = manifest::accept(&repo, &vin(), &forged, now()).unwrap_err();
    assert!(matches!(error, Error::Manifest { .. }), "{error}");
    assert!(
        manifest::known(&repo, &vin())
            .unwrap()
            .disbelieved
            .is_some()
    );
}

#[test]
fn below_what_was_granted_before_somebody_at_the_vault_decides() {
    let vault = Vault::of(Desk::new());
    let desk = &vault.desk;
    let (old, new) = (desk.pack("hw-a", "1.0.0", 4), desk.pack("hw-a", "2.0.0", 5));
    let old = [old];
    desk.release("new", &[new]).unwrap();
    let mut options = desk.options("old", &old);
    options.allow_downgrade = true;
    let error = refused(desk, || release(&desk.repo(), &options, now()).map(drop));
    assert_eq!(error.exit_code(), ExitCode::Refused);
    assert!(error.to_string().contains("oem vault permit"), "{error}");
    let image = vault.load(&old[0]);
    for downgrade in [false, true] {
        let error = vault.ask("door", &image, downgrade).unwrap_err();
        assert!(matches!(error, Error::VaultRefuses(_)), "{error}");
    }
    vault::permit(&vault.repo(), image.digest).unwrap();
    release(&desk.repo(), &options, now()).unwrap();
}

#[test]
fn the_vault_goes_by_what_it_has() {
    let vault = Vault::of(Desk::new());
    let desk = &vault.desk;
    let path = desk.pack("hw-a", "1.0.0", 4);
    let image = vault.load(&path);
    let refused = |ecu: &str, image: &Image, sequence: Option<u64>, words: &str| {
        let before = desk.files("vault");
        let error = vault.ask_for(ecu, image, false, sequence).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(desk.files("vault") == before, "{error}: the vault changed");
    };
    // A header that no image key signed, whose content key the desk has put there.
    let mut forged = image.clone();
    forged.bytes[ecu_image::HEADER_LEN - 1000] ^= 1;
    let header = forged.bytes.first_chunk().unwrap();
    let secrets = vault.repo().image_secrets(&image.digest).unwrap();
    let repo = desk.repo();
    vault::holder(&repo)
        .unwrap()
        .keep(header, &secrets)
        .unwrap();
    // One that is here keeps the key that it has.
    let header = image.bytes.first_chunk().unwrap();
    let error = vault::holder(&repo).unwrap().keep(header, &secrets);
    assert!(matches!(error, Err(Error::VaultRefuses(_))), "{error:?}");
    drop(repo);
    refused("door", &forged, None, "signature");
    refused("brake", &image, None, "hw-b");
    refused("roof", &image, None, "no ECU roof");
    let first = vault.ask("door", &image, false).unwrap();
    assert_eq!(first.sequence, SequenceNumber(1));
    refused("door", &image, Some(1), "the last one was 1");
    // An image that nobody packed here, though the right key signed it.
    let kept = desk.path(&format!("vault/keys/images/{}.json", image.digest));
    fs::remove_file(kept).unwrap();
    refused("door", &image, None, "no content key");
}

#[test]
fn a_vehicle_is_added_with_keys_that_only_the_vault_has() {
    let vault = Vault::of(Desk::new());
    let desk = &vault.desk;
    let spec = fs::read_to_string(desk.path("spec.json")).unwrap();
    let spec = spec.replace(VIN, "WCANEPUS000000002").replace("SN-", "SM-");
    fs::write(desk.path("second.json"), &spec).unwrap();
    let add = |out| vehicle::add(&desk.repo(), &desk.path("second.json"), &desk.path(out));
    add("second").unwrap();
    assert!(desk.path("second/tcu.pem").exists());
    assert!(!desk.path("second/ecus").exists());
    let second = "WCANEPUS000000002".parse().unwrap();
    vehicle::export(&vault.repo(), &second, &desk.path("keys-of-it")).unwrap();
    assert_eq!(desk.files("keys-of-it").len(), 2);
    // The answer was lost: asked again, the vault gives the same vehicle.
    let keys = desk.files("vault/keys/vehicles");
    fs::remove_file(desk.path("repo/keys/vehicles/WCANEPUS000000002.json")).unwrap();
    add("again").unwrap();
    assert_eq!(desk.files("vault/keys/vehicles"), keys);
    // Another vehicle of that number is none.
    fs::remove_file(desk.path("repo/keys/vehicles/WCANEPUS000000002.json")).unwrap();
    fs::write(desk.path("second.json"), spec.replace("hw-a", "hw-c")).unwrap();
    let error = add("other").unwrap_err();
    assert!(matches!(error, Error::VaultRefuses(_)), "{error}");
}

#[test]
fn without_its_vault_a_desk_releases_nothing_and_accuses_nobody() {
    let mut vault = Vault::of(Desk::new());
    let image = [vault.desk.pack("hw-a", "1.0.0", 4)];
    let nonce = manifest::nonce(&vault.desk.repo(), &vin(), now()).unwrap();
    let said = crate::manifest::honest(&vault.desk, &nonce);
    vault.end();
    let desk = &vault.desk;
    let error = refused(desk, || desk.release("spring", &image).map(drop));
    assert!(matches!(error, Error::VaultAway { .. }), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Io);
    let accept = || manifest::accept(&desk.repo(), &vin(), &said, now()).map(drop);
    let error = refused(desk, accept);
    assert!(matches!(error, Error::VaultAway { .. }), "{error}");
}

#[tokio::test]
async fn nobody_without_the_desks_certificate_is_heard() {
    let vault = Vault::of(Desk::new());
    let other = Desk::new();
    vault::part(&other.repo(), &options(&other)).unwrap();
    let read = |desk: &Desk, name: &str| fs::read(desk.path(&format!("repo/keys/vault/{name}")));
    let ca = Certificate::from_pem(&read(&vault.desk, "ca.pem").unwrap()).unwrap();
    let identity = |desk: &Desk| {
        let pair = ["client.pem", "client.key"].map(|name| read(desk, name).unwrap());
        Identity::from_pem(&pair.concat()).unwrap()
    };
    let ask = async |identity: Option<Identity>| {
        let builder = Client::builder().tls_certs_only([ca.clone()]);
        let builder = identity.into_iter().fold(builder, |it, id| it.identity(id));
        let request = builder
            .build()
            .unwrap()
            .post(format!("{}/grants", vault.url));
        let request = request
            .header("content-type", "application/json")
            .body("{}");
        request
            .send()
            .await
            .map(|response| response.status().as_u16())
    };
    assert!(ask(None).await.is_err());
    assert!(ask(Some(identity(&other))).await.is_err());
    assert_eq!(ask(Some(identity(&vault.desk))).await.unwrap(), 422);
}

#[test]
fn parting_goes_on_where_it_was_interrupted() {
    let desk = Desk::new();
    desk.pack("hw-a", "1.0.0", 4);
    // The vault was begun and is not complete.
    fs::create_dir_all(desk.path("vault/keys/vehicles")).unwrap();
    fs::write(desk.path("vault/keys/key-set.bin"), "torn").unwrap();
    let keys = desk.files("repo/keys/vehicles");
    vault::part(&desk.repo(), &options(&desk)).unwrap();
    // The desk knows the vault, and has not forgotten a vehicle's keys yet.
    let (path, bytes) = &keys[0];
    fs::write(path, bytes).unwrap();
    let before = desk.files("vault");
    vault::part(&desk.repo(), &options(&desk)).unwrap();
    assert!(desk.repo().vehicle(&vin()).unwrap().ecus.is_empty());
    assert!(desk.files("vault") == before);
    // Another vault would not have the keys.
    let mut elsewhere = options(&desk);
    elsewhere.url = "https://127.0.0.1:2".parse().unwrap();
    let error = refused(&desk, || vault::part(&desk.repo(), &elsewhere).map(drop));
    assert!(matches!(error, Error::Vault(_)), "{error}");
    let mut plain = options(&desk);
    plain.url = "http://127.0.0.1:2".parse().unwrap();
    let other = Desk::new();
    let error = refused(&other, || vault::part(&other.repo(), &plain).map(drop));
    assert!(matches!(error, Error::Vault(_)), "{error}");
}

#[test]
fn a_desk_is_no_vault() {
    let desk = Desk::new();
    let address = "127.0.0.1:0".parse().unwrap();
    let error = vault::service::bind(&desk.repo_dir(), address).unwrap_err();
    assert!(matches!(error, Error::Vault(_)), "{error}");
}
