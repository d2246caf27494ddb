//! A cloud's API: one project of one OpenStack. It knows no step.
//!
//! Invariant: whatever changes the cloud takes a permit. A token that dies is replaced by a whole new session, once per
//! request (the library's own refresh keeps a token until its clock says that it expired). Every request has a limit of
//! ours. Nothing here derives `Debug` over a session: the library prints passwords.

mod access;
pub mod belongings;
mod compute;
pub mod flavor;
mod image;
pub mod inventory;
mod mark;
mod network;
mod pace;
mod refusal;
mod roll;
mod volume;

pub use compute::{Flavor, KeyPair, Limit, Limits, Server, ServerGroup, Status};
pub use image::Image;
pub use mark::{BLANK, Mark};
pub use network::{Network, NewPort, NewRule, Port, SecurityGroup, Subnet, Usage};
pub use pace::{Pace, Turn};
pub use refusal::Refusal;
pub use volume::{Attachment, Condition, NewVolume, Volume};

use crate::error::Result;
use crate::settings::{Access, Side};
use osauth::services::ServiceType;
use osauth::{ErrorKind, Session};
use reqwest::Method;
use roll::Roll;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How often a reading that was answered by a failure is tried again.
const READ_AGAIN: u32 = 2;

/// What a service answered, or why not.
pub type Answer<T> = std::result::Result<T, Refusal>;

/// A client of one project.
pub struct Cloud {
    /// `the old cloud` or `the new cloud`, as messages say it.
    pub name: String,
    access: Access,
    http: reqwest::Client,
    session: Mutex<Option<(u64, Session)>>,
    /// Our own id, once the network service was asked for it.
    project: Mutex<Option<Option<String>>>,
    servers: Roll<Server>,
    ports: Roll<Port>,
    flavors: Roll<Flavor>,
    images: Roll<Image>,
    networks: Roll<Network>,
    subnets: Roll<Subnet>,
    groups: Roll<SecurityGroup>,
    key_pairs: Roll<KeyPair>,
    server_groups: Roll<ServerGroup>,
    volumes: Roll<Volume>,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Cloud({})", self.name)
    }
}

impl Cloud {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// [`crate::error::Error::Settings`] where the access cannot be used: no such entry of `clouds.yaml`, no such file.
    pub fn new(side: Side, access: &Access) -> Result<Self> {
        let access = access::resolved(side, access)?;
        Ok(Self {
            name: format!("the {} cloud", side.word()),
            http: access::http(side, &access)?,
            access,
            session: Mutex::new(None),
            project: Mutex::new(None),
            servers: Roll::default(),
            ports: Roll::default(),
            flavors: Roll::default(),
            images: Roll::default(),
            networks: Roll::default(),
            subnets: Roll::default(),
            groups: Roll::default(),
            key_pairs: Roll::default(),
            server_groups: Roll::default(),
            volumes: Roll::default(),
        })
    }

    /// Logs in, unless that was done.
    ///
    /// # Errors
    /// [`Refusal`] in the identity service's words.
    pub async fn login(&self) -> Answer<()> {
        self.session(None).await.map(|_| ())
    }

    /// Tells whether the catalogue has a service, in the region that was asked for.
    pub async fn has(&self, service: impl ServiceType + Send + Copy) -> Answer<bool> {
        let (_, session) = self.session(None).await?;
        let known = async {
            match session.get_endpoint(service, osauth::client::NO_PATH).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == ErrorKind::EndpointNotFound => Ok(false),
                Err(error) => Err(error),
            }
        };
        self.in_time(service.catalog_type(), known).await
    }

    /// Lists the servers, as they are now or later.
    pub async fn servers(&self) -> Answer<std::rc::Rc<Vec<Server>>> {
        self.servers.fresh(Instant::now(), || self.read_servers()).await
    }

    /// Lists the servers as they are after a time, and no sooner than a tick after the last look of whoever it was.
    pub async fn servers_after(&self, after: Instant, tick: Duration) -> Answer<std::rc::Rc<Vec<Server>>> {
        self.servers.next(after, tick, || self.read_servers()).await
    }

    /// Lists the ports of the project, as they are now or later.
    pub async fn ports(&self) -> Answer<std::rc::Rc<Vec<Port>>> {
        self.ports.fresh(Instant::now(), || self.read_ports()).await
    }

    /// Lists the flavors that the project may use.
    pub async fn flavors(&self) -> Answer<std::rc::Rc<Vec<Flavor>>> {
        self.flavors.any(|| self.read_flavors()).await
    }

    /// Lists the images that the project may use.
    pub async fn images(&self) -> Answer<std::rc::Rc<Vec<Image>>> {
        self.images.any(|| self.read_images()).await
    }

    /// Lists the networks that the project sees.
    pub async fn networks(&self) -> Answer<std::rc::Rc<Vec<Network>>> {
        self.networks.any(|| self.read_networks()).await
    }

    /// Lists the subnets that the project sees.
    pub async fn subnets(&self) -> Answer<std::rc::Rc<Vec<Subnet>>> {
        self.subnets.any(|| self.read_subnets()).await
    }

    /// Lists the security groups of the project, as they are now or later.
    pub async fn security_groups(&self) -> Answer<std::rc::Rc<Vec<SecurityGroup>>> {
        self.groups.fresh(Instant::now(), || self.read_security_groups()).await
    }

    /// Lists the key pairs of the user, as they are now or later.
    pub async fn key_pairs(&self) -> Answer<std::rc::Rc<Vec<KeyPair>>> {
        self.key_pairs.fresh(Instant::now(), || self.read_key_pairs()).await
    }

    /// Lists the server groups of the project, as they are now or later.
    pub async fn server_groups(&self) -> Answer<std::rc::Rc<Vec<ServerGroup>>> {
        self.server_groups.fresh(Instant::now(), || self.read_server_groups()).await
    }

    /// Lists the volumes of the project, as they are now or later.
    pub async fn volumes(&self) -> Answer<std::rc::Rc<Vec<Volume>>> {
        self.volumes.fresh(Instant::now(), || self.read_volumes()).await
    }

    /// Lists the volumes as they are after a time, and no sooner than a tick after the last look of whoever it was.
    pub async fn volumes_after(&self, after: Instant, tick: Duration) -> Answer<std::rc::Rc<Vec<Volume>>> {
        self.volumes.next(after, tick, || self.read_volumes()).await
    }

    /// Returns a session whose token is not known to be dead.
    async fn session(&self, dead: Option<u64>) -> Answer<(u64, Session)> {
        let mut held = self.session.lock().await;
        if let Some((number, session)) = &*held
            && Some(*number) != dead
        {
            return Ok((*number, session.clone()));
        }
        let number = held.as_ref().map_or(0, |(number, _)| number + 1);
        let session = match self.in_time("login", access::session(&self.access, &self.http)).await {
            Ok(session) => session,
            Err(refusal) => return Err(access::with_cause(refusal, &self.access, &self.http).await),
        };
        *held = Some((number, session.clone()));
        Ok((number, session))
    }

    /// Sends one request, with a new session where the token turned out to be dead.
    async fn call(
        &self,
        service: impl ServiceType + Send + Copy,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Answer<Value> {
        let what = || format!("{method} {}/{}", service.catalog_type(), path.join("/"));
        let mut dead = None;
        loop {
            let (number, session) = self.session(dead).await?;
            let mut request = session.request(service, method.clone(), path).query(query);
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = self.in_time(&what(), request.send_unchecked()).await?;
            if answer.status() == reqwest::StatusCode::UNAUTHORIZED && dead.is_none() {
                dead = Some(number);
                continue;
            }
            return Refusal::or_json(&self.name, &what(), answer).await;
        }
    }

    /// Deletes one thing; one that is gone is no error.
    async fn delete(&self, service: impl ServiceType + Send + Copy, kind: &str, id: &str) -> Answer<()> {
        match self.call(service, Method::DELETE, &[kind, id], &[], None).await {
            Err(refusal) if refusal.status == Some(404) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Asks by the library's own types, with a new session where the token turned out to be dead.
    async fn typed<T>(&self, what: &str, ask: impl AsyncFn(openstack::Cloud) -> openstack::Result<T>) -> Answer<T> {
        again(async || {
            let (number, session) = self.session(None).await?;
            match self.in_time(what, ask(openstack::Cloud::from(session))).await {
                Err(refusal) if refusal.status == Some(401) => {
                    let (_, session) = self.session(Some(number)).await?;
                    self.in_time(what, ask(openstack::Cloud::from(session))).await
                }
                other => other,
            }
        })
        .await
    }

    async fn read(
        &self,
        service: impl ServiceType + Send + Copy,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Answer<Value> {
        again(async || self.call(service, Method::GET, path, query, None).await).await
    }

    /// Reads a whole list, page by page.
    async fn list(
        &self,
        service: impl ServiceType + Send + Copy,
        path: &[&str],
        key: &str,
        query: &[(&str, String)],
    ) -> Answer<Vec<Value>> {
        let mut all: Vec<Value> = Vec::new();
        let mut query = query.to_vec();
        let mut asked: BTreeSet<String> = BTreeSet::new();
        loop {
            let mut page = self.read(service, path, &query).await?;
            let more = page
                .get(format!("{key}_links"))
                .and_then(Value::as_array)
                .is_some_and(|links| links.iter().any(|link| link.get("rel").and_then(Value::as_str) == Some("next")));
            let Some(Value::Array(found)) = page.get_mut(key).map(Value::take) else {
                return Err(Refusal::malformed(&self.name, &path.join("/"), key));
            };
            let last = found.last().and_then(|item| item.get("id")).and_then(Value::as_str).map(str::to_owned);
            all.extend(found);
            match last {
                // It would go on for ever, and no single answer would be late.
                Some(last) if asked.contains(&last) => {
                    return Err(self.refusal_of(&path.join("/"), "it answers the same page again and again"));
                }
                Some(last) if more || page.get("next").is_some() => {
                    asked.insert(last.clone());
                    query.retain(|(key, _)| *key != "marker");
                    query.push(("marker", last));
                }
                _ => return Ok(all),
            }
        }
    }

    /// Waits for an answer within our limit: the library's errors do not tell lateness from other failures.
    async fn in_time<T>(
        &self,
        what: &str,
        answer: impl Future<Output = std::result::Result<T, osauth::Error>>,
    ) -> Answer<T> {
        match tokio::time::timeout(Duration::from_millis(self.access.deadlines.request), answer).await {
            Ok(answer) => answer.map_err(|error| self.refusal(what, &error)),
            Err(_) => Err(Refusal::late(&self.name, what)),
        }
    }

    /// Says in the cloud's name why something cannot be asked of it yet.
    pub fn refusal_of(&self, what: &str, words: &str) -> Refusal {
        Refusal { what: format!("{}, {what}", self.name), status: None, words: words.to_owned(), retry_after: None }
    }

    fn refusal(&self, what: &str, error: &osauth::Error) -> Refusal {
        Refusal::of(&self.name, what, error)
    }
}

/// Reads, and again where the service answers that it has enough or failed: reading twice is reading once.
async fn again<T>(read: impl AsyncFn() -> Answer<T>) -> Answer<T> {
    let mut rest = Duration::from_millis(500);
    for _ in 0..READ_AGAIN {
        match read().await {
            Err(refusal) if refusal.status.is_some_and(|status| status == 429 || status >= 500) => {
                log::warn!("reading again: {refusal}");
                tokio::time::sleep(refusal.retry_after.unwrap_or(rest).min(Duration::from_secs(10))).await;
                rest *= 2;
            }
            other => return other,
        }
    }
    read().await
}

/// Reads a text of an answer; nothing where it is not there.
fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}
