//! The kinds of objects that a version of a service holds.
//!
//! Invariant: one table drives reading, comparing and copying of every kind; a kind that is not in it is not copied, and
//! [`UNCOPIED`] names it.
//! Source of the rules: Fastly's API reference, one page per kind.

/// One kind of object.
pub(super) struct Kind {
    /// The last part of its path inside a version; also its name in messages.
    pub path: &'static str,
    /// What `details` call the list of them; nothing where it must be asked for by its path.
    pub details: Option<&'static str>,
    /// Fields that the API works out from others.
    pub derived: &'static [&'static str],
    /// Changed and deleted by its id, beside the versions.
    pub by_id: bool,
}

const fn listed(path: &'static str, details: &'static str) -> Kind {
    Kind { path, details: Some(details), derived: &[], by_id: false }
}

/// In the order of their making: what is named by others comes first.
pub(super) const KINDS: [Kind; 15] = [
    listed("condition", "conditions"),
    listed("acl", "acls"),
    listed("healthcheck", "healthchecks"),
    listed("cache_settings", "cache_settings"),
    listed("domain", "domains"),
    Kind { derived: &["ipv4", "ipv6", "hostname"], ..listed("backend", "backends") },
    listed("director", "directors"),
    listed("dictionary", "dictionaries"),
    listed("gzip", "gzips"),
    listed("header", "headers"),
    listed("request_settings", "request_settings"),
    listed("response_object", "response_objects"),
    listed("vcl", "vcls"),
    listed("snippet", "snippets"),
    Kind { path: "rate-limiters", details: None, derived: &["feature_revision"], by_id: true },
];

/// The version's own settings: one object that is always there.
pub(super) const SETTINGS: &str = "settings";
/// A switch: there or not.
pub(super) const HTTP3: &str = "http3";
/// Domains of the model in which no version holds them.
pub(super) const VERSIONLESS_DOMAIN: &str = "versionless domain";

/// The kinds of log endpoints, below `logging/`.
pub(super) const LOGGING: [&str; 28] = [
    "azureblob",
    "bigquery",
    "cloudfiles",
    "datadog",
    "digitalocean",
    "elasticsearch",
    "ftp",
    "gcs",
    "grafanacloudlogs",
    "heroku",
    "honeycomb",
    "https",
    "kafka",
    "kinesis",
    "logentries",
    "loggly",
    "logshuttle",
    "newrelic",
    "newrelicotlp",
    "openstack",
    "papertrail",
    "pubsub",
    "s3",
    "scalyr",
    "sftp",
    "splunk",
    "sumologic",
    "syslog",
];

/// Lists inside a version that are not copied, and what they are.
pub(super) const UNCOPIED: [(&str, &str); 3] = [
    ("pool", "a server pool"),
    ("resource", "a link to a store of the account"),
    ("image_optimizer_default_settings", "defaults of the image optimizer"),
];

/// Products that are switched on beside the versions, and must be bought.
pub(super) const PRODUCTS: [&str; 11] = [
    "bot_management",
    "brotli_compression",
    "ddos_protection",
    "domain_inspector",
    "fanout",
    "image_optimizer",
    "log_explorer_insights",
    "ngwaf",
    "origin_inspector",
    "stage",
    "websockets",
];

/// Fields that say where and when an object is, and not what.
pub(super) const PLACE: [&str; 10] = [
    "id",
    "service_id",
    "version",
    "locked",
    "created_at",
    "updated_at",
    "deleted_at",
    "snippet_id",
    "acl_id",
    "dictionary_id",
];
