"""The site's application: Debian's MediaWiki on nginx and php-fpm, and the template of it.

Installing MediaWiki is the slowest part of making a site, so it is done once, in a host of its
own, and kept: the data directory, the settings and the message cache. `up` copies them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets as random
import shutil
import subprocess
from pathlib import Path

from tests.lab import database
from tests.lab.hosts import LAB, Host
from tests.lab.network import Network

PUBLIC_NAME = "docs.example.org"
DBHOST_FILE = "/etc/mediawiki/dbhost"
CACHEHOST_FILE = "/etc/mediawiki/cachehost"
IMAGES = "/var/lib/mediawiki/images"
READONLY_FILE = "/etc/mediawiki/readonly"
TEMPLATE = LAB / "template"
PAGES = ["Main Page", *(f"Guide {number}" for number in range(1, 9))]
# Stands in the text of every page of the template: a page without it is not that page.
READER_MARK = "every reader of the lab looks for this line"

_NGINX = """\
server {
    listen 80 default_server;
    server_name _;
    root /var/lib/mediawiki;
    index index.php;
    client_max_body_size 8m;
    location ~ \\.php$ {
        include fastcgi.conf;
        fastcgi_pass unix:/run/php/fpm.sock;
        fastcgi_read_timeout 30s;
    }
    location = /alive { return 204; }
    location ~ ^/(cache|maintenance|includes|vendor)/ { deny all; }
}
"""

_POOL = """\
[www]
user = www-data
group = www-data
listen = /run/php/fpm.sock
listen.owner = www-data
listen.group = www-data
pm = static
pm.max_children = 8
"""

_SETTINGS = """\
<?php
if ( !defined( 'MEDIAWIKI' ) ) {
    exit;
}
$wgSitename = 'Docs';
$wgServer = 'http://%(public)s';
$wgScriptPath = '';
$wgResourceBasePath = '';
$wgDBtype = 'mysql';
$wgDBserver = trim( file_get_contents( '%(dbhost)s' ) );
$wgDBname = 'wiki';
$wgDBuser = 'wiki';
$wgDBpassword = '%(password)s';
$wgDBTableOptions = 'ENGINE=InnoDB, DEFAULT CHARSET=binary';
$wgReadOnlyFile = '%(readonly)s';
// Rendered pages and sessions alone outlive a request: MediaWiki would remember for 5 s that a server was read-only.
$wgMainCacheType = CACHE_NONE;
$wgMessageCacheType = CACHE_NONE;
$wgMemCachedServers = [ trim( file_get_contents( '%(cachehost)s' ) ) . ':11211' ];
$wgParserCacheType = CACHE_MEMCACHED;
$wgSessionCacheType = CACHE_MEMCACHED;
$wgCacheDirectory = '/var/lib/mediawiki/cache';
$wgLocalisationCacheConf['store'] = 'files';
$wgLocalisationCacheConf['manualRecache'] = true;
$wgJobRunRate = 0;
$wgRateLimits = [];
$wgEnableUploads = true;
$wgUploadDirectory = '%(images)s';
$wgUploadPath = '/images';
$wgFileExtensions[] = 'txt';
$wgVerifyMimeType = false;
$wgGroupPermissions['*']['upload'] = true;
$wgGroupPermissions['*']['reupload'] = true;
$wgSecretKey = '%(key)s';
$wgUpgradeKey = '%(upgrade)s';
$wgLanguageCode = 'en';
$wgDiff3 = '';
wfLoadSkin( 'Vector' );
$wgDefaultSkin = 'vector';
"""


# As states/memcache.sls has it.
CACHE_SETTINGS = "-d\n-m 64\n-p 11211\n-u memcache\n-l 0.0.0.0\n"


def fpm_unit() -> str:
    return sorted(Path("/lib/systemd/system").glob("php*-fpm.service"))[-1].name


def configure(host: Host, dbhost: str, cachehost: str, settings: str) -> None:
    """Put the application on a host's disk, beside the given database and cache."""
    version = fpm_unit().removeprefix("php").removesuffix("-fpm.service")
    host.write("/etc/nginx/sites-enabled/default", _NGINX)
    host.write(f"/etc/php/{version}/fpm/pool.d/www.conf", _POOL)
    host.write(DBHOST_FILE, dbhost + "\n")
    host.write(CACHEHOST_FILE, cachehost + "\n")
    host.write("/etc/mediawiki/LocalSettings.php", settings, 0o640, "www-data")


def _key() -> str:
    sources = [Path(module.__file__ or "") for module in (database,)]
    seen = [path.read_bytes() for path in (Path(__file__), *sources)]
    versions = subprocess.run(
        ["dpkg-query", "-W", "mariadb-server", "mediawiki", "php-fpm"], capture_output=True
    ).stdout
    return hashlib.sha256(b"\0".join([*seen, versions])).hexdigest()


def template(network: Network) -> dict[str, str]:
    """Make the template unless it is there; returns the accounts' passwords that are in it."""
    made = TEMPLATE / "made.json"
    if made.exists() and json.loads(made.read_text())["key"] == _key():
        return json.loads(made.read_text())["secrets"]
    shutil.rmtree(TEMPLATE, ignore_errors=True)
    (TEMPLATE / "mysql").mkdir(parents=True)
    TEMPLATE.chmod(0o700)
    shutil.chown(TEMPLATE / "mysql", "mysql", "mysql")
    secrets = {
        name: random.token_hex(16)
        for name in ("admin", "marker", "replication", "wiki", "fastly", "wiki_admin")
    }
    host = Host("template", ["10.70.0.250"])
    host.binds[str(TEMPLATE / "mysql")] = ("/var/lib/mysql", True)
    network.add_host(host.name, host.addresses)
    try:
        host.create("127.0.0.1 localhost\n")
        host.write("/etc/mysql/mariadb.conf.d/70-site.cnf", database.configuration("template", 11))
        host.start()
        host.wait("basic.target")
        _install(host, secrets)
    finally:
        host.stop()
        host.remove()
        network.remove_host(host.name)
    made.touch(0o600)
    made.write_text(json.dumps({"key": _key(), "secrets": secrets}))
    return secrets


def _install(host: Host, secrets: dict[str, str]) -> None:
    host.run("mariadb-install-db --user=mysql --auth-root-authentication-method=socket"
             " --skip-test-db --skip-name-resolve && systemctl start mariadb"
             " && mariadb-upgrade --silent")  # fmt: skip
    host.run(["mariadb"], stdin=database.accounts_sql(secrets))
    for name in ("wiki", "wiki_admin"):
        host.write(f"/etc/mediawiki/{name}.pass", secrets[name], 0o600)
    host.run(
        "cd /usr/share/mediawiki && php maintenance/install.php --confpath /etc/mediawiki"
        " --dbtype mysql --dbserver 127.0.0.1 --dbname wiki --dbuser wiki"
        f" --dbpassfile /etc/mediawiki/wiki.pass --server http://{PUBLIC_NAME} --scriptpath ''"
        " --passfile /etc/mediawiki/wiki_admin.pass Docs Admin",
        timeout=300,
    )
    values = {
        "public": PUBLIC_NAME,
        "dbhost": DBHOST_FILE,
        "cachehost": CACHEHOST_FILE,
        "readonly": READONLY_FILE,
        "images": IMAGES,
        "password": secrets["wiki"],
        "key": random.token_hex(32),
        "upgrade": random.token_hex(8),
    }
    settings = _SETTINGS % values
    configure(host, "127.0.0.1", "127.0.0.1", settings)
    (TEMPLATE / "LocalSettings.php").write_text(settings)
    for page in PAGES:
        text = f"This is {page}; {READER_MARK}.\n\n" + "Some text to read. " * 60
        host.write(f"/srv/pages/{page}.txt", text)
    host.run(
        "cd /var/lib/mediawiki && php maintenance/rebuildLocalisationCache.php --lang=en"
        " && php maintenance/importTextFiles.php --overwrite /srv/pages/*.txt"
        " && php maintenance/runJobs.php && chown -R www-data: cache",
        timeout=300,
    )
    subprocess.run(
        ["cp", "-a", str(host.root / "var/lib/mediawiki/cache"), str(TEMPLATE / "cache")],
        check=True,
    )
    # MediaWiki makes this one table MyISAM, which breaks when a server loses its power.
    host.run(["mariadb", "wiki"], stdin="ALTER TABLE searchindex ENGINE=InnoDB;\n")
    position = database.SEED_POSITION
    host.run(["mariadb"], stdin=f"RESET MASTER; SET GLOBAL gtid_binlog_state='{position}';\n")
    host.run("systemctl stop mariadb")


def install_cache(host: Host) -> None:
    """Have a host's memcached listen to the site, as the site's own state has it."""
    host.write("/etc/memcached.conf", CACHE_SETTINGS)


def install(host: Host, dbhost: str, cachehost: str) -> None:
    """Copy the template's application to a host that is off."""
    template = TEMPLATE / "LocalSettings.php"
    configure(host, dbhost, cachehost, template.read_text())
    # MediaWiki tells browsers of it: no page was changed after this file was, and that is one time on both sides.
    when = template.stat().st_mtime
    os.utime(host.root / "etc/mediawiki/LocalSettings.php", (when, when))
    cache = host.root / "var/lib/mediawiki/cache"
    shutil.rmtree(cache)
    subprocess.run(["cp", "-a", str(TEMPLATE / "cache"), str(cache)], check=True)
