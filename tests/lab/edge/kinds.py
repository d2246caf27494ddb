"""The kinds of objects a service version holds: paths, names, defaults, types.

One table drives create, read, update, delete, list, details and clone of every kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Field:
    """One attribute: the type it is answered in, and its default at creation."""

    type: str
    default: Any


def _fields(spec: str, default_type: str) -> dict[str, Field]:
    """Reads ``name[:type][=default]`` words; no default means null, ``name=`` an empty string."""
    fields: dict[str, Field] = {}
    for word in spec.split():
        head, equals, default = word.partition("=")
        name, _, kind = head.partition(":")
        kind = kind or default_type
        fields[name] = Field(kind, typed(kind, default) if equals else None)
    return fields


def typed(kind: str, value: Any) -> Any:
    """Gives a value of a JSON or form body the type in which the API answers it."""
    if value is None:
        return None
    if kind == "str":
        return str(int(value)) if isinstance(value, bool) else str(value)
    if kind == "list":
        # Forms carry lists as JSON text; that is read where it arrives.
        return value or []
    truth = str(value).lower()
    if kind == "bool":
        return truth in ("1", "true")
    if kind == "int":
        if truth in ("true", "false"):
            return int(truth == "true")
        return int(value) if truth.lstrip("-").isdigit() else None
    return value


@dataclass(frozen=True)
class Kind:
    """One kind of object of a version."""

    path: str
    label: str
    details: str | None = None
    spec: str = ""
    # Several older kinds answer every attribute, the version number too, as a string.
    strings: bool = False
    has_id: bool = False
    # Stored kinds keep whatever was sent: nothing in the stand-in interprets them.
    stored: bool = False
    by_id: bool = False
    fields: dict[str, Field] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", _fields(self.spec, "str"))

    def accept(self, sent: dict[str, Any]) -> dict[str, Any]:
        """Keeps the attributes this kind knows, typed; others are ignored, as the API does."""
        if self.stored:
            own = ("service_id", "version", "created_at", "updated_at", "deleted_at", "id")
            kept = {key: value for key, value in sent.items() if key not in own}
            if "port" in kept:
                kept["port"] = typed("int", kept["port"])
            return kept
        return {
            key: typed(self.fields[key].type, value)
            for key, value in sent.items()
            if key in self.fields
        }

    def defaults(self) -> dict[str, Any]:
        return {name: item.default for name, item in self.fields.items()}


_BACKEND = """name address port:int=80 weight:int=100 comment= request_condition= override_host
use_ssl:bool=0 ssl_check_cert:bool=1 ssl_cert_hostname ssl_sni_hostname ssl_hostname ssl_ca_cert
ssl_client_cert ssl_client_key ssl_ciphers min_tls_version max_tls_version client_cert shield
healthcheck auto_loadbalance:bool=0 connect_timeout:int=1000 first_byte_timeout:int=15000
between_bytes_timeout:int=10000 error_threshold:int=0 max_conn:int=200 max_use:int
max_lifetime:int share_key prefer_ipv6:bool=0 keepalive_time:int tcp_keepalive_enable:bool
tcp_keepalive_interval:int tcp_keepalive_probes:int tcp_keepalive_time:int"""

_HEALTHCHECK = """name comment= method=HEAD host= path=/ http_version=1.1 check_interval:int=5000
expected_response:int=200 timeout:int=500 threshold:int=3 window:int=5 initial:int=2 headers:list="""

_REQUEST_SETTINGS = """name action bypass_busy_wait default_host force_miss force_ssl=0 geo_headers
hash_keys max_stale_age request_condition= timer_support xff=append"""

_CACHE_SETTINGS = "name action ttl stale_ttl=0 cache_condition="
_RESPONSE_OBJECT = "name status=200 response=Ok content= content_type= request_condition= " + (
    "cache_condition="
)

_HEADER = """name action=set type dst src ignore_if_set=0 priority=100 regex= substitution=
request_condition cache_condition response_condition"""

_KINDS = (
    Kind("backend", "Backend", "backends", _BACKEND),
    Kind("domain", "Domain", "domains", "name comment="),
    Kind(
        "director",
        "Director",
        "directors",
        "name comment= type:int=1 quorum:int=75 retries:int=5 capacity:int=100 shield",
    ),
    Kind("healthcheck", "Healthcheck", "healthchecks", _HEALTHCHECK),
    Kind("condition", "Condition", "conditions", "name comment= priority=100 statement type", True),
    Kind("header", "Header", "headers", _HEADER, True),
    Kind("gzip", "Gzip", "gzips", "name cache_condition= content_types= extensions=", True),
    Kind("cache_settings", "CacheSettings", "cache_settings", _CACHE_SETTINGS, True),
    Kind("request_settings", "RequestSettings", "request_settings", _REQUEST_SETTINGS, True),
    Kind("response_object", "ResponseObject", "response_objects", _RESPONSE_OBJECT, True),
    Kind("vcl", "VCL", "vcls", "name content main:bool=0"),
    Kind(
        "snippet",
        "Snippet",
        "snippets",
        "name type content priority=100 dynamic=0",
        True,
        has_id=True,
    ),
    Kind("dictionary", "Dictionary", "dictionaries", "name write_only:bool=0", has_id=True),
    Kind("acl", "ACL", "acls", "name", True, has_id=True),
    Kind("rate-limiters", "RateLimiter", None, has_id=True, stored=True, by_id=True),
)

_LOGGING = """azureblob bigquery cloudfiles datadog digitalocean elasticsearch ftp gcs
grafanacloudlogs heroku honeycomb https kafka kinesis logentries loggly logshuttle
newrelic newrelicotlp openstack papertrail pubsub s3 scalyr sftp splunk sumologic syslog"""

KINDS: dict[str, Kind] = {kind.path: kind for kind in _KINDS} | {
    f"logging/{name}": Kind(f"logging/{name}", f"logging_{name}", strings=True, stored=True)
    for name in _LOGGING.split()
}

# What a version says of itself besides its objects.
SETTINGS: dict[str, Field] = {
    "general.default_host": Field("str", ""),
    "general.default_ttl": Field("int", 3600),
    "general.stale_if_error": Field("bool", False),
    "general.stale_if_error_ttl": Field("int", 43200),
    "general.default_pci": Field("int", 0),
}
