//! The certificate authority of the repository and the server's certificate (X.509, ECDSA P-256).
//!
//! TLS only hides what is asked for; nothing is believed because of it.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::error::Error;

/// Certificates and keys in PEM.
#[derive(Debug)]
pub struct Certificates {
    /// The authority's certificate, which a vehicle is given.
    pub ca: String,
    /// The authority's key.
    pub ca_key: String,
    /// The server's certificate.
    pub server: String,
    /// The server's key.
    pub server_key: String,
}

/// Generates an authority and a certificate for `hosts` (names or addresses).
///
/// # Errors
///
/// [`Error::Crypto`] for a host that is neither.
pub fn generate(hosts: &[String]) -> Result<Certificates, Error> {
    certificates(hosts).map_err(Error::crypto("certificate generation"))
}

fn certificates(hosts: &[String]) -> Result<Certificates, rcgen::Error> {
    let ca = Authority::generate("Canopus OEM authority")?;
    let server = ca.issue(
        "Canopus OEM server",
        hosts,
        ExtendedKeyUsagePurpose::ServerAuth,
    )?;
    Ok(Certificates {
        ca_key: ca.key.serialize_pem(),
        ca: ca.pem,
        server: server.pem,
        server_key: server.key,
    })
}

/// Certificates of a vault and its desk, who know each other by them. Nobody keeps the authority's key.
#[derive(Debug)]
pub(crate) struct Mutual {
    pub ca: String,
    pub server: String,
    pub server_key: String,
    pub client: String,
    pub client_key: String,
}

/// # Errors
///
/// [`Error::Crypto`] for a host that is neither name nor address.
pub(crate) fn mutual(host: &str) -> Result<Mutual, Error> {
    let made = || {
        let ca = Authority::generate("Canopus vault authority")?;
        let hosts = [host.to_owned()];
        let server = ca.issue("Canopus vault", &hosts, ExtendedKeyUsagePurpose::ServerAuth)?;
        let client = ca.issue("Canopus desk", &[], ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(Mutual {
            ca: ca.pem,
            server: server.pem,
            server_key: server.key,
            client: client.pem,
            client_key: client.key,
        })
    };
    made().map_err(Error::crypto::<rcgen::Error>("certificate generation"))
}

/// A certificate authority.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

/// A certificate and its key in PEM.
struct Issued {
    pem: String,
    key: String,
}

impl Authority {
    fn generate(name: &str) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = params(name, Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { params, key, pem })
    }

    fn issue(
        &self,
        name: &str,
        hosts: &[String],
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Issued, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = params(name, hosts.to_vec())?;
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_params(&self.params, &self.key);
        Ok(Issued {
            pem: params.signed_by(&key, &issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn params(name: &str, hosts: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    Ok(params)
}
