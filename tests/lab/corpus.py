"""Owns a generated tree of configuration with planted literals of every form, decoys, and the answer key."""

from __future__ import annotations

import base64
import ipaddress
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = [
    "db1",
    "db2",
    "app1",
    "app2",
    "app3",
    "project",
    "monitor",
    "memcache1",
    "storage3",
    "blog0",
]


def pillar(state_dir: Path) -> dict[str, Any]:
    """A site whose old side is scattered over two ranges, and whose names are also public ones."""
    old, new = {}, {}
    for index, name in enumerate(NAMES):
        # No two old addresses share a /24; some are the beginning of others.
        octet = [18, 180, 11, 111, 1, 10, 100, 12, 120, 2][index]
        old[name] = {"private": f"10.{4 + index % 2}.{10 + index}.{octet}", "minion": f"old-{name}"}
        new[name] = {"private": f"10.0.0.{index + 1}", "minion": f"new-{name}"}
    old["app1"]["public"], new["app1"]["public"] = "203.0.113.21", "198.51.100.21"
    # A minion whose id is a public name's neighbour.
    old["kuma"] = {"private": "10.4.200.9", "minion": "kuma.webplatform.org"}
    new["kuma"] = {"private": "10.0.0.40"}
    # IPv6, and one that is asked for by its name.
    old["storage6"] = {"private": "2001:db8:4::13", "minion": "old-storage6"}
    new["storage6"] = {"private": "2001:db8:80::13", "minion": "new-storage6"}
    domain = {
        name: {f"{name}.pmtpa.wpdn": f"{name}.dho.wpdn"}
        for name in ["db1", "db2", "project", "monitor"]
    }
    domain["db1"]["masterdb"] = "primarydb"
    return {
        "state_dir": str(state_dir),
        "nodes": {"old": old, "new": new},
        "addresses": {
            "ranges": [
                {"old": "10.4.0.0/16"},
                {"old": "10.5.0.0/16"},
                {"old": "2001:db8:4::/48", "new": "2001:db8:80::/48"},
            ],
            "names": domain,
            "domains": {"local.wpdn": "dho.wpdn", "webplatform.org": "dho.wpdn"},
            "public": ["project.webplatform.org", "monitor.webplatform.org", "docs.local.wpdn"],
            "allowed": [{"from": "db1", "to": "db1", "port": 3306, "paths": ["**/replication/*"]}],
        },
    }


@dataclass(frozen=True)
class Planted:
    """A literal, where it stands, and what is to be said of it."""

    path: str
    line: int
    column: int
    token: str
    form: str
    verdict: str
    node: str | None


class Corpus:
    """Writes the files line by line, and keeps the key."""

    def __init__(self, root: Path, pillar_: dict[str, Any], seed: int = 7) -> None:
        self.root = root
        self.key: set[Planted] = set()
        self.decoys = 0
        self._old = pillar_["nodes"]["old"]
        self._random = random.Random(seed)
        self._files: dict[str, list[str]] = {}

    def address(self, node: str) -> str:
        """The old private address of a node."""
        return str(self._old[node]["private"])

    def plant(
        self, file: str, line: str, form: str, node: str | None, verdict: str = "stale"
    ) -> None:
        """Adds a line in which each token stands between « and »."""
        lines = self._lines(file)
        parts = line.split("«")
        text = parts[0]
        for part in parts[1:]:
            token, rest = part.split("»")
            column = len(text.encode()) + 1
            path = str(self.root / file)
            self.key.add(Planted(path, len(lines) + 1, column, token, form, verdict, node))
            text += token + rest
        lines.append(text)

    def decoy(self, file: str, *lines: str) -> None:
        """Adds lines in which nothing is stale."""
        self._lines(file).extend(lines)
        self.decoys += len(lines)

    def write(self) -> None:
        """Writes everything."""
        for name, lines in self._files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n")

    def _lines(self, file: str) -> list[str]:
        lines = self._files.setdefault(file, [])
        for _ in range(self._random.randint(0, 3)):
            words = self._random.sample(["max", "limit", "cache", "on", "retry = 3", "size: 10"], 3)
            lines.append(" ".join(words))
        return lines


def build(root: Path, pillar_: dict[str, Any]) -> Corpus:
    """Plants every form for every node that can have it, beside decoys."""
    corpus = Corpus(root, pillar_)
    for node in NAMES:
        _forms(corpus, node)
        _decoys(corpus, node)
    _names(corpus)
    _six(corpus)
    _verdicts(corpus)
    corpus.write()
    return corpus


def _forms(corpus: Corpus, node: str) -> None:
    ip = corpus.address(node)
    a, b, c, d = ip.split(".")
    plant = corpus.plant
    plant("salt/app/init.sls", f"    - host: «{ip}»", "dotted", node)
    plant("code/wiki/LocalSettings.php", f"$wgDBserver = '«{ip}»';", "dotted", node)
    plant("code/wiki/cache.php", f"  '«{ip}:11211»', '«{ip}:11212»',", "port", node)
    plant("etc/php.ini", f'session.save_path = "tcp://«{ip}:11211»?weight=1"', "port", node)
    plant("etc/app.ini", f"bind-address=«{ip}»", "dotted", node)
    plant("vcl/docs.vcl", f'  .host = "«{ip}»";', "dotted", node)
    plant(
        "bin/deploy.sh",
        f"rsync -a /srv/code «{ip}»:/srv/ && mysql -h«{ip}» -e 'select 1'",
        "dotted",
        node,
    )
    plant("etc/hosts", f"«{ip}» {node}-alias", "dotted", node)
    plant("etc/fstab", f"«{ip}»:/wiki-images /mnt glusterfs defaults 0 0", "dotted", node)
    plant("etc/allow.conf", f"Allow from «{ip}/32»;", "cidr", node)
    plant("etc/pg_hba.conf", f"host all all «{a}.{b}.{c}.0/24» md5", "cidr", node)
    plant("etc/my.sql", f"GRANT ALL ON x.* TO 'u'@'«{a}.{b}.{c}.0/255.255.255.0»';", "cidr", node)
    plant("etc/my.sql", f"GRANT ALL ON x.* TO 'u'@'«{a}.{b}.{c}.%»';", "wildcard", node)
    plant(
        "etc/dhcp.conf",
        f"pool «{a}.{b}.{c}.{max(int(d) - 1, 0)}-{a}.{b}.{c}.{int(d) + 1}»",
        "range",
        node,
    )
    plant("etc/fail2ban.conf", f"failregex = ^«{a}\\.{b}\\.{c}\\.{d}» .*$", "regex", node)
    plant("etc/nginx.conf", f'if ($remote_addr ~ "^«{a}\\.{b}\\.{c}\\.»\\d+") {{ }}', "regex", node)
    plant("etc/hosts.allow", f"sshd: «{a}.{b}.{c}.»", "prefix", node)
    plant("etc/loop.sh", f'for i in 1 2; do ping "«{a}.{b}.{c}.»$i"; done', "prefix", node)
    plant("dns/zone.jinja", f"{{% if ip|truncate(8) == '«{a}.{b}.{c}»' %}}", "prefix", node)
    plant("dns/local.zone", f"{node}x  IN  A  «{ip}»", "dotted", node)
    plant(
        "dns/full.zone", f"«{d}.{c}.{b}.{a}.in-addr.arpa». IN PTR {node}.example.net.", "ptr", node
    )
    plant("dns/named.conf", f'zone "«{c}.{b}.{a}.in-addr.arpa»" {{ type master; }};', "ptr", node)
    plant(f"dns/{c}.{b}.{a}.in-addr.arpa", f"«{d}»  IN  PTR  {node}.example.net.", "zone", node)
    inner = f"#cloud-config\nmaster: {ip}\n"
    encoded = base64.b64encode(inner.encode()).decode()
    lines = ["  - encoding: b64", f"    content: {encoded}"]
    corpus.decoy(f"cloud/{node}.yaml", lines[0])
    number = len(corpus._lines(f"cloud/{node}.yaml")) + 1
    corpus._files[f"cloud/{node}.yaml"].append(lines[1])
    path = str(corpus.root / f"cloud/{node}.yaml")
    corpus.key.add(Planted(path, number, 14, ip, "base64", "stale", node))
    # Wrapped, without a word that says what it is, and at another alignment.
    inner = f"{'x' * (len(node) % 3)}{'filler ' * 14}\nserver {ip}\n{'more of it ' * 9}\n"
    encoded = base64.b64encode(inner.encode()).decode()
    rows = [f"    {encoded[at : at + 76]}" for at in range(0, len(encoded), 76)]
    file = f"secrets/{node}.yaml"
    corpus.decoy(file, "user_data: |")
    start = len(corpus._files[file]) + 1
    corpus._files[file].extend(rows)
    corpus.key.add(Planted(str(corpus.root / file), start, 5, ip, "base64", "stale", node))


def _decoys(corpus: Corpus, node: str) -> None:
    ip = corpus.address(node)
    a, b, c, d = ip.split(".")
    corpus.decoy(
        "decoys/longer.conf",
        f"listen {ip}0;" if int(d) * 10 > 255 else f"listen 1{ip};",
        f"oid = 1.3.6.1.4.1.{ip}",
        f"serial {ip}.7",
        f"package foo-{ip}-1ubuntu2_amd64.deb",
        f"other_host = 210.{b}.{c}.{d}",
        f"other_host = {a}.{b}.{c}.{d}99",
        f"decimal = {a}.{b}",
        f"ratio = {a}.{b}/{c}.{d}",
        f"version = {ip}",
        f'product_version: "{ip}"',
        f"User-Agent: Mozilla/5.0 Chrome/{ip} Safari/537",
        f"if $osrelease == '{a}.{b}'",
        f"ubuntu {a}.{b} and then",
        f"sum: {a}.{b}.{c} was the build",
        f"url: http://{ip}.example.com/",
        f"id=abc{ip}def",
        f"hex 0x{a}.{b}.{c}.{d}abc",
        f"{d}.{c}.{b}.{a}.example.com",
        f"zone {a}.{b}.{c}.{d}.in-addr.arpa",
        f"0{ip}",
        "everything 0.0.0.0/0 and ::/0",
        "loop 127.0.0.1 and 192.168.0.1 and 10.0.0.3 and 10.200.0.1",
        "allow 10.0.0.0/24;",
        f"time {int(a)}.{int(b):02d}.2013 and {a}.{b} percent",
    )


def _names(corpus: Corpus) -> None:
    plant, decoy = corpus.plant, corpus.decoy
    plant("salt/db.sls", "  - server: «db1.pmtpa.wpdn»", "name", "db1")
    plant("code/db.php", "'host' => '«DB2.pmtpa.wpdn»',", "name", "db2")
    plant("code/db.php", "$dsn = 'mysql:host=«masterdb»;dbname=x';", "name", "db1")
    plant("etc/hosts", "10.0.0.1 «masterdb»", "name", "db1")
    plant("code/dsn.py", 'url = "mysql://u:p@«masterdb»:3306/x"', "name", "db1")
    plant("etc/resolv.conf", "search «local.wpdn»", "domain", None)
    plant(
        "etc/grants.sql", "GRANT REPLICATION SLAVE ON *.* TO r@'%.«local.wpdn»'", "wildcard", None
    )
    plant("etc/upstream.conf", "server «app1.local.wpdn»:8080;", "name", "app1")
    plant("etc/upstream.conf", "server «app99.local.wpdn»:8080;", "name", None, "unknown")
    plant("dns/zone.zone", "www IN CNAME «project.pmtpa.wpdn».", "name", "project")
    plant("apache/vhost.conf", "ServerName «project.webplatform.org»", "name", None, "public")
    plant("apache/alias.conf", "proxy http://«app2.webplatform.org»/", "name", "app2")
    plant("apache/vhost.conf", "ServerAlias «project.pmtpa.wpdn»", "name", "project", "public")
    plant(
        "apache/vhost.conf",
        "Redirect permanent / http://«monitor.pmtpa.wpdn»/",
        "name",
        "monitor",
        "public",
    )
    plant("etc/proxy.conf", "proxy_pass http://«docs.local.wpdn»/;", "name", None, "public")
    plant("salt/top.sls", "  '«old-db1»':", "name", "db1", "target")
    plant("salt/orch.sls", "    - tgt: «old-app1»", "name", "app1", "target")
    plant("bin/run.sh", "salt '«db1.pmtpa.wpdn»' test.ping", "name", "db1", "target")
    plant("bin/run.sh", "salt -C 'S@«10.4.10.18» or G@a:b' test.ping", "dotted", "db1", "target")
    plant("apache/vhost.conf", "ServerName «kuma.webplatform.org»", "name", "kuma", "public")
    plant("etc/proxy.conf", "proxy_pass http://«kuma.webplatform.org»/;", "name", "kuma")
    plant("salt/top.sls", "  '«kuma.webplatform.org»':", "name", "kuma", "target")
    plant("etc/aliases", "root: people@«webplatform.org»", "domain", None, "public")
    plant("etc/grants.sql", "CREATE USER 'u'@'«10.4.10.1_»';", "wildcard", "db1")
    plant("dns/origin.zone", "$ORIGIN «16.4.10.in-addr.arpa».", "ptr", "monitor")
    plant("dns/origin.zone", "«100»  3600 IN PTR  monitor.example.net.", "zone", "monitor")
    decoy(
        "decoys/names.conf",
        "the project is a project of ours",
        "project: {name: project}",
        "server project",
        "xdb1.pmtpa.wpdn.example.com",
        "masterdb: {role: x}",
        "# who is the masterdb here",
        "masterdb_password = 1",
        "my-db1.pmtpa.wpdn2",
        "old-db11 and very-old-db1",
        "notlocal.wpdn",
    )


def _six(corpus: Corpus) -> None:
    plant = corpus.plant
    plant("etc/six.conf", "listen [«2001:db8:4::13»]:443;", "ipv6", "storage6")
    plant("etc/six.conf", "peer «2001:DB8:4:0:0:0:0:13»", "ipv6", "storage6")
    plant("etc/six.conf", "peer «2001:0db8:0004::0013»", "ipv6", "storage6")
    plant("etc/six.conf", "route «2001:db8:4::/48»", "ipv6", "storage6")
    plant("etc/six.conf", "peer «2001:db8:4::99»", "ipv6", None, "unknown")
    reverse = ipaddress.ip_address("2001:db8:4::13").reverse_pointer
    plant("dns/six.zone", f"«{reverse}». IN PTR storage6.", "ptr", "storage6")
    corpus.decoy(
        "decoys/six.conf",
        "peer 2001:db8:4::130",
        "peer 2001:db8:40::13",
        "peer 2001:db8:80::13",
        "time 2001:12:13",
        "peer 12001:db8:4::13",
    )


def _verdicts(corpus: Corpus) -> None:
    ip = corpus.address("db1")
    plant = corpus.plant
    plant("salt/c.sls", f"key: value  # was «{ip}» once", "dotted", "db1", "comment")
    plant("salt/c.sls", f"# «{ip}»", "dotted", "db1", "comment")
    plant("code/c.php", f"// «{ip}»", "dotted", "db1", "comment")
    plant("code/c.php", f"/* «{ip}» */ $a = 1;", "dotted", "db1", "comment")
    plant("code/c.php", f"$u = 'http://«{ip}»/#top';", "dotted", "db1")
    plant("code/c.php", f"$u = '# «{ip}»';", "dotted", "db1")
    plant("dns/c.zone", f"a IN A 10.0.0.9 ; «{ip}»", "dotted", "db1", "comment")
    plant("etc/c.html", f"<!-- «{ip}» --> x", "dotted", "db1", "comment")
    plant("etc/c.sql", f"-- «{ip}»", "dotted", "db1", "comment")
    plant("replication/chain.cnf", f"master_host = «{ip}»", "dotted", "db1", "allowed")
    plant("replication/chain.cnf", f"master = «{ip}:3306»", "port", "db1", "allowed")
    plant("replication/chain.cnf", f"ssh = «{ip}:22»", "port", "db1")
    plant("etc/u.conf", "peer «10.4.77.5»", "dotted", None, "unknown")
    plant("etc/u.conf", "net «10.5.201.0/24»", "cidr", None, "unknown")
    # It holds the new addresses as well, so it still fits.
    plant("etc/u.conf", "net «10.0.0.0/8»", "cidr", "ALL", "allowed")
    plant("etc/pub.conf", "backend «203.0.113.21:80»", "port", "app1")
