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
    let ca_key = KeyPair::generate()?;
    let mut ca = params("Canopus OEM authority", Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_certificate = ca.self_signed(&ca_key)?;

    let server_key = KeyPair::generate()?;
    let mut server = params("Canopus OEM server", hosts.to_vec())?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_params(&ca, &ca_key);
    let server_certificate = server.signed_by(&server_key, &issuer)?;
    Ok(Certificates {
        ca: ca_certificate.pem(),
        ca_key: ca_key.serialize_pem(),
        server: server_certificate.pem(),
        server_key: server_key.serialize_pem(),
    })
}

fn params(name: &str, hosts: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    Ok(params)
}
