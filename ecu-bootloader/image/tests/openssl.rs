//! The OpenSSL command line alone verifies and decrypts a packed image, and verifies a key set, by
//! exactly the shell lines of `docs/spec/image.md` and `keyset.md`: an independent reader of the
//! formats.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use ecu_image::crypto::{ContentKey, MacKey, WrapKey};
use ecu_image::keyset::{KeySet, KeySetContent, KeyStatus, NewKey, add_signature};
use ecu_image::pack::{GrantRequest, PackRequest, build};
use ecu_image::pss::key_id;
use ecu_image::{
    Algorithm, Grant, GrantFlags, Header, HeaderFlags, ImageVersion, IvSeed, KeySetVersion,
    LogicalBlock, PageSize, Salt, SecurityCounter, SequenceNumber, SignatureLen, SlotSet,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePublicKey as _, LineEnding};
use rsa::pss::SigningKey;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _, Signer as _};
use rsa::traits::PublicKeyParts as _;
use sha2::Sha256;

const WRAP_KEY: &str = "000102030405060708090a0b0c0d0e0f";
const GRANT_KEY: &str = "f0e1d2c3b4a5968778695a4b3c2d1e0f";

fn bytes(hex: &str) -> [u8; 16] {
    u128::from_str_radix(hex, 16).unwrap().to_be_bytes()
}

/// RSA-3072, as an OEM has it.
fn private_key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::new(&mut StdRng::seed_from_u64(1), 3072).unwrap())
}

fn sign(message: &[u8]) -> Vec<u8> {
    let signer = SigningKey::<Sha256>::new(private_key().clone());
    let mut rng = StdRng::seed_from_u64(2);
    signer.sign_with_rng(&mut rng, message).to_vec()
}

/// The only block of shell lines in a specification.
fn recipe(spec: &str) -> String {
    let spec = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/spec")
        .join(spec);
    let spec = fs::read_to_string(spec).unwrap();
    let (_, block) = spec.split_once("```sh\n").expect("a block of shell lines");
    let (block, rest) = block.split_once("```").expect("its end");
    assert!(!rest.contains("```sh"), "which block is the recipe?");
    block.to_owned()
}

/// Image, grant and public key in a directory of their own.
struct Files(tempfile::TempDir);

/// What signs an image, and its public half.
enum Signer {
    Rsa,
    Ecdsa(p256::ecdsa::SigningKey),
}

impl Signer {
    fn key(&self) -> (Vec<u8>, SignatureLen) {
        match self {
            Self::Rsa => (private_key().n_bytes().to_vec(), SignatureLen::Rsa3072),
            Self::Ecdsa(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                (point.as_bytes()[1..].to_vec(), SignatureLen::P256)
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa => sign(message),
            Self::Ecdsa(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }
        }
    }

    fn public_pem(&self) -> String {
        let pem = match self {
            Self::Rsa => private_key()
                .to_public_key()
                .to_public_key_pem(LineEnding::LF),
            Self::Ecdsa(key) => key.verifying_key().to_public_key_pem(LineEnding::LF),
        };
        pem.unwrap()
    }
}

impl Files {
    fn new(plaintext: &[u8], content_key: &ContentKey, page_size: u32) -> Self {
        Self::signed(&Signer::Rsa, plaintext, content_key, page_size)
    }

    fn signed(signer: &Signer, plaintext: &[u8], content_key: &ContentKey, page_size: u32) -> Self {
        let (key, signature_len) = signer.key();
        let salt = Salt([0xC3; 16]);
        let request = PackRequest {
            hardware_id: "BRAKE-2".parse().unwrap(),
            logical_block: LogicalBlock::APPLICATION,
            slots: SlotSet::ALL,
            version: ImageVersion {
                major: 1,
                minor: 0,
                patch: 0,
            },
            security_counter: SecurityCounter(1),
            load_address: 0,
            page_size: PageSize::new(page_size).unwrap(),
            flags: HeaderFlags::default(),
            key_id: key_id(&key),
            signature_len,
            content_key,
            salt,
            // The page number meets bits that are set.
            iv_seed: IvSeed([0xFF; 16]),
            plaintext,
        };
        let image = build(&request, |signed| Ok::<_, Infallible>(signer.sign(signed))).unwrap();
        let grant = Grant::issue(
            &GrantRequest {
                ecu_serial: "ECU-0001".parse().unwrap(),
                image_digest: Header::digest_of(image.first_chunk().unwrap()),
                sequence: SequenceNumber(1),
                flags: GrantFlags::default(),
                content_key,
                salt,
            },
            &WrapKey::new(bytes(WRAP_KEY)),
            &MacKey::new(bytes(GRANT_KEY)),
        );
        let files = Self(tempfile::tempdir().unwrap());
        files.write("image.bin", &image);
        files.write("grant.bin", &grant.encode());
        files.write("public.pem", signer.public_pem().as_bytes());
        files
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.0.path().join(name), content).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).unwrap()
    }

    /// Runs the recipe on these files, one of them with a bit altered for as long.
    fn run_altered(&self, name: &str, offset: usize) -> Output {
        let original = self.read(name);
        let mut altered = original.clone();
        altered[offset] ^= 1;
        self.write(name, &altered);
        let output = self.run();
        self.write(name, &original);
        output
    }

    fn run(&self) -> Output {
        Command::new("sh")
            .arg("-c")
            .arg(recipe("image.md"))
            .env("WRAP_KEY", WRAP_KEY)
            .env("GRANT_KEY", GRANT_KEY)
            .current_dir(self.0.path())
            .output()
            .expect("a POSIX shell")
    }
}

fn plaintext(len: usize) -> Vec<u8> {
    let mut plaintext = vec![0; len];
    StdRng::seed_from_u64(3).fill(&mut plaintext[..]);
    plaintext
}

#[test]
fn openssl_alone_verifies_and_decrypts_an_image() {
    let cases = [
        (ContentKey::Aes128([0x77; 16]), 4096, 10_001),
        (ContentKey::Aes256([0x99; 32]), 256, 130 * 256),
    ];
    for (key, page_size, len) in cases {
        let files = Files::new(&plaintext(len), &key, page_size);
        let output = files.run();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(files.read("plain.bin"), plaintext(len));
    }
}

#[test]
fn openssl_alone_verifies_an_image_that_ecdsa_signed() {
    // Of 16 signatures some numbers begin with zeros, and half with a bit that DER puts a zero before.
    for number in 1..=16 {
        let signer = Signer::Ecdsa(p256::ecdsa::SigningKey::from_slice(&[number; 32]).unwrap());
        let key = ContentKey::Aes128([number; 16]);
        let files = Files::signed(&signer, &plaintext(300), &key, 256);
        let output = files.run();
        assert!(output.status.success(), "{number}: {output:?}");
        assert_eq!(files.read("plain.bin"), plaintext(300));
        if number == 1 {
            let output = files.run_altered("image.bin", 44);
            assert!(!output.status.success());
            assert!(!files.run_altered("image.bin", 1056).status.success());
        }
    }
}

#[test]
fn openssl_alone_sees_every_alteration() {
    let files = Files::new(&plaintext(600), &ContentKey::Aes128([0x77; 16]), 256);
    let cases = [
        ("image.bin", 44, "Verification failure"),
        ("image.bin", 1024, "Verification failure"),
        ("image.bin", 1536, "table page 0 is wrong"),
        ("image.bin", 1536 + 4096 + 300, "page 1 is wrong"),
        ("grant.bin", 72, "grant MAC is wrong"),
        ("grant.bin", 250, "grant MAC is wrong"),
    ];
    for (name, offset, expected) in cases {
        let output = files.run_altered(name, offset);
        assert!(!output.status.success(), "{name} {offset}");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(expected), "{name} {offset}: {said}");
    }
}

/// OpenSSL's answer on a key set for the root in `root.pem`, by the lines of its specification.
fn verify_key_set(set: &[u8]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let public = private_key().to_public_key();
    let public = public.to_public_key_pem(LineEnding::LF).unwrap();
    fs::write(folder.path().join("root.pem"), public).unwrap();
    fs::write(folder.path().join("key-set.bin"), set).unwrap();
    let output = Command::new("sh")
        .arg("-c")
        .arg(recipe("keyset.md"))
        .current_dir(folder.path())
        .output()
        .expect("a POSIX shell");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}

#[test]
fn openssl_alone_verifies_a_signature_of_a_key_set() {
    let key = |status, bytes: &[u8]| NewKey {
        algorithm: Algorithm::RsaPssSha256,
        status,
        bytes: bytes.to_vec(),
    };
    let content = KeySetContent {
        hardware_id: None,
        version: KeySetVersion(3),
        keys: vec![
            key(KeyStatus::Active, &[0x81; 384]),
            key(KeyStatus::Revoked, &[0x83; 512]),
        ],
    };
    let unsigned = content.build().unwrap();
    let (right, said) = verify_key_set(&unsigned);
    assert!(!right && said.contains("has not signed"), "{said}");
    // Other roots have signed before and behind it.
    let root = key_id(&private_key().n_bytes());
    let signed = KeySet::parse(&unsigned).unwrap().signed_bytes();
    let set = add_signature(&unsigned, root, &sign(signed)).unwrap();
    let set = add_signature(&set, ecu_image::KeyId([0; 8]), &[1; 256]).unwrap();
    let set = add_signature(&set, ecu_image::KeyId([0xFF; 8]), &[1; 512]).unwrap();
    assert_eq!(verify_key_set(&set), (true, "Verified OK\n".into()));
    let mut altered = set;
    altered[40] ^= 1;
    let (right, said) = verify_key_set(&altered);
    assert!(!right && said.contains("Verification failure"), "{said}");
}
