//! A login to a cloud: from the pillar, or from an entry of `clouds.yaml`.
//!
//! Invariant: the password and the token stay inside the session; a refusal names where it looked, never what it read.

use super::Refusal;
use crate::error::{Error, Result};
use crate::settings::{Access, Login, Side};
use openstack::auth::{Password, Scope};
use osauth::common::IdOrName;
use osauth::identity::ApplicationCredential;
use osauth::{CloudConfig, InterfaceType, Session};
use serde_json::Value;
use std::time::Duration;

/// Replaces an entry of `clouds.yaml` by what stands in it; what the pillar says besides wins.
pub(super) fn resolved(side: Side, access: &Access) -> Result<Access> {
    let Some(entry) = &access.cloud else { return Ok(access.clone()) };
    let path = || format!("migrate:clouds:{}:cloud", side.word());
    let wrong = |found: String| Error::Settings {
        path: path(),
        found,
        expected: "an entry of clouds.yaml in the working folder, ~/.config/openstack or /etc/openstack".into(),
        hint: "docs/prepare.md shows every form of access".into(),
    };
    let config = CloudConfig::from_config(entry).map_err(|error| wrong(format!("{entry:?} ({error})")))?;
    let config = serde_json::to_value(&config).map_err(|_| wrong(format!("{entry:?}, which cannot be read")))?;
    let mut auth = config.get("auth").cloned().unwrap_or_default();
    if let Value::Object(auth) = &mut auth {
        // Keys that say nothing here.
        for key in ["endpoint", "token", "user_id", "project_domain_id", "application_credential_name"] {
            auth.remove(key);
        }
    }
    let login: Login =
        serde_json::from_value(auth).map_err(|_| wrong(format!("{entry:?}, whose auth has another form")))?;
    let text = |key: &str| config.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(Access {
        cloud: None,
        auth: Some(login),
        region_name: access.region_name.clone().or_else(|| text("region_name")),
        interface: access.interface.clone().or_else(|| text("interface")),
        cacert: access.cacert.clone().or_else(|| text("cacert").map(Into::into)),
        deadlines: access.deadlines.clone(),
    })
}

/// How long a connection may rest before it is used again: less than any server lets it, for one that is closed while a
/// request is on its way leaves the request without an answer.
const IDLE: Duration = Duration::from_secs(2);

/// Builds the HTTP client: limits of ours, and the authority that signed the API's certificate.
pub(super) fn http(side: Side, access: &Access) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .connect_timeout(Duration::from_millis(access.deadlines.connect))
        // The client's own limit comes first; this one is for what it does not wrap.
        .timeout(Duration::from_millis(access.deadlines.request + 1_000))
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("saltext-migrate/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &access.cacert {
        let wrong = |found: String| Error::Settings {
            path: format!("migrate:clouds:{}:cacert", side.word()),
            found,
            expected: "a file of PEM certificates".into(),
            hint: "give the file of the authority that signed the API's certificate".into(),
        };
        let text = std::fs::read(path).map_err(|error| wrong(format!("{}: {error}", path.display())))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&text)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| wrong(format!("{}, in which is no certificate", path.display())))?;
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| Error::remote("HTTP", error))
}

/// Finds out why a login could not even be sent: the library swallows a certificate that is not believed, or a closed door.
pub(super) async fn with_cause(refusal: Refusal, access: &Access, http: &reqwest::Client) -> Refusal {
    let Some(login) = access.auth.as_ref().filter(|_| refusal.unsent()) else { return refusal };
    let Err(error) = http.get(&login.auth_url).send().await else { return refusal };
    let mut words = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(inner) = cause {
        words.push(inner.to_string());
        cause = inner.source();
    }
    Refusal { words: format!("{}: {}", login.auth_url, words.join(": ")), ..refusal }
}

/// Logs in.
pub(super) async fn session(access: &Access, http: &reqwest::Client) -> std::result::Result<Session, osauth::Error> {
    let nothing = || osauth::Error::new(osauth::ErrorKind::InvalidConfig, "no login is given");
    let login = access.auth.as_ref().ok_or_else(nothing)?;
    let url = &login.auth_url;
    let mut session = match (&login.username, &login.password) {
        (Some(user), Some(password)) => {
            let domain = |name: &Option<String>| name.clone().unwrap_or_else(|| "Default".into());
            let mut auth = Password::new(url, user, password.reveal(), domain(&login.user_domain_name))?;
            let project = match (&login.project_id, &login.project_name) {
                (Some(id), _) => Some((IdOrName::from_id(id), None)),
                (None, Some(name)) => {
                    Some((IdOrName::from_name(name), Some(IdOrName::from_name(domain(&login.project_domain_name)))))
                }
                (None, None) => None,
            };
            if let Some((project, domain)) = project {
                auth.set_scope(Scope::Project { project, domain });
            }
            Session::new_with_client(http.clone(), auth).await?
        }
        _ => {
            let (Some(id), Some(secret)) = (&login.application_credential_id, &login.application_credential_secret)
            else {
                return Err(nothing());
            };
            let auth = ApplicationCredential::new(url, id, secret.reveal())?;
            Session::new_with_client(http.clone(), auth).await?
        }
    };
    session.endpoint_filters_mut().region.clone_from(&access.region_name);
    session.set_endpoint_interface(match access.interface.as_deref() {
        Some("internal") => InterfaceType::Internal,
        Some("admin") => InterfaceType::Admin,
        _ => InterfaceType::Public,
    });
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    #[test]
    fn a_connection_that_rested_is_not_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                // As one that closes a resting connection just when a request comes: each gets one answer.
                std::thread::spawn(move || {
                    let mut connection = connection.unwrap();
                    let request = |from: &mut BufReader<_>| {
                        let lines = from.lines().map_while(std::result::Result::ok);
                        lines.take_while(|line| !line.is_empty()).count() > 0
                    };
                    let mut reader = BufReader::new(connection.try_clone().unwrap());
                    if request(&mut reader) {
                        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                        request(&mut reader);
                    }
                });
            }
        });
        let access: Access = serde_json::from_value(serde_json::json!({"cloud": "any"})).unwrap();
        let client = http(Side::New, &access).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert!(client.get(&url).send().await.unwrap().status().is_success());
            tokio::time::sleep(IDLE + Duration::from_millis(200)).await;
            assert!(client.get(&url).send().await.unwrap().status().is_success());
        });
    }
}
