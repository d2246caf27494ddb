# The whole migration, in one key. Every value the tool reads is named here; what is commented out shows its default; an
# example where it names things of a site (hosts, nodes, files, accounts of yours), or where the words above it say what leaving it out means.
# Secrets are sdb:// references, or values of a gpg-rendered pillar: they are resolved inside, and never printed (set up: docs/security.md).
migrate:

  # Where the journal, the lock and the reports live: outside Salt's cache, on the Salt master that runs the flip.
  # state_dir: /var/lib/saltext-migrate

  # The nodes of both clouds, also those that play no part below (memcache, mail, monitoring): prepare, the search for old addresses and the
  # tripwire go by this list. The same name on both sides is the same part of the site, before and after.
  #   private   address inside its cloud; database connections and CDN backends are matched against it
  #   public    address that the CDN and people reach, where the node has one
  #   minion    Salt minion id, where the node is (or will be) a minion of this master
  #   defaults_file  where the configuration of its database server begins (default /etc/mysql/my.cnf)
  #   role_file, notice_path  where this node has other ones than databases:role_file and notice:path
  nodes:
    old:
      db1:   {private: 10.70.0.11, minion: old-db1}
      db2:   {private: 10.70.0.12, minion: old-db2}
      app1:  {private: 10.70.0.21, public: 203.0.113.21, minion: old-app1}
    new:
      relay: {private: 10.80.0.10, minion: relay}
      db1:   {private: 10.80.0.11, minion: new-db1}
      db2:   {private: 10.80.0.12, minion: new-db2}
      app1:  {private: 10.80.0.21, public: 198.51.100.21, minion: new-app1}

  # The chain of database servers, by node name. The declared chain is
  # old primary -> old replicas and relay, relay -> new primary and new replicas.
  # Without a relay, new primary and new replicas are declared under the old primary.
  databases:
    old: {primary: db1, replicas: [db2]}
    new: {primary: db1, replicas: [db2], relay: relay}
    # port: 3306
    accounts:
      # Used by the controller: needs SUPER-like rights (see docs/what-it-needs.md).
      admin:       {user: migrate, password: 'sdb://migrate/admin'}
      # Writes one row into saltext_migrate.marker, and may do nothing else: so it is stopped by a fence.
      marker:      {user: migrate_marker, password: 'sdb://migrate/marker'}
      # Used by the servers among themselves.
      replication: {user: replication, password: 'sdb://migrate/replication'}
    # Accounts that keep READ_ONLY ADMIN or SUPER and are known to be quiet (backup, monitoring); left out, these. MySQL has none to name.
    # may_bypass_fence: [root, mysql, mariadb.sys]
    # The GTID domain in which a fenced former primary writes what it must not (MariaDB).
    # quarantine_domain: 99
    # A file each database server reads at boot; holds the role, so that a reboot does not undo the flip. MySQL keeps it itself.
    # role_file: /etc/mysql/mariadb.conf.d/99-saltext-migrate.cnf   # prepare with family: mysql, in mysql.conf.d
    # Where both primaries keep a page of plain SQL, for the night on which controller and guard are dead.
    # break_glass_file: /var/lib/saltext-migrate/break-glass.txt
    # Verified TLS to the servers and between them. Left out, the connections are in clear.
    # tls: {ca: /etc/ssl/certs/site-ca.pem, verify_hostname: true}
    # Milliseconds. Overrun of any before the commit point sends everybody back.
    # deadlines: {connect: 5000, fence: 1000, catch_up: 2000, replication: 30000, abort: 60000, window: 15000}
    # A marker must cross the chain within this many milliseconds before anybody is bothered.
    # max_lag: 1000
    # Hours for which both primaries keep their binlogs: a server that is away longer has to be seeded anew.
    # soak_hours: 168
    # Where this is set, a flip demands that the data of both primaries was compared within so many hours, and was the same:
    # `salt-run migrate.checksum old-db1 new-db1`. Left out, nothing is asked for.
    # checksum_hours: 24

  # 'Migration in progress': shown to editors by every application node while they cannot save.
  notice:
    text: 'Migration in progress. Your page is safe; saving works again in a moment.'
    # link: 'https://status.example.org/'
    nodes: {old: [app1], new: [app1]}
    # The file whose presence makes the application read-only and whose content it shows ($wgReadOnlyFile).
    # path: /etc/mediawiki/readonly
    # Milliseconds between the last notice and the fence, for edits already in flight.
    # drain: 250
    # And, where requests of these nodes are still at work in the database by then, at the most.
    # drain_limit: 2000
    # Seconds to wait for a host's answer.
    # host_seconds: 10

  # The CDN. Backends that point to a node of one side are pointed to the node of the same name on the other;
  # names, weights, shields and conditions stay. A backend address that no node owns stops the staging.
  edge:
    token: 'sdb://migrate/fastly'
    # api: https://api.fastly.com
    services:
      docs:
        id: SU1Z0isxPaozGVKXdv0eY
        # Proves that the edge serves the new version: this URL is asked, at each address where given,
        # until the header names the new version.
        # probe: {url: 'https://docs.example.org/', addresses: [192.0.2.7, '192.0.2.8:443'], header: x-version}
        # After the switch: left out nothing, else all, or some surrogate keys: {keys: [front, nav]}.
        # purge: all
        # Backends that stay where they point, by name: an object store, a third party.
        # leave: []
        # A service of its own that serves test domains from the new side (docs/edge.md has all of it).
        #   name     what it is called in the CDN account
        #   domains  what it serves; never a name that people use
        #   logs     log endpoints that it has too, with the fields that differ; all others are left out
        #   versionless: whether its domains stand beside versions; left out, as those of the service
        # copy: {name: docs-copy, domains: [docs-copy.example.org], logs: {central: {address: test-logs.example.org}}}
    # How many requests may be under way at once.
    # parallel: 16
    # How many writes the account has in an hour, as far as nobody told yet.
    # writes_per_hour: 1000
    # Milliseconds; quota is how long copying and staging may wait for the next hour's writes.
    # deadlines: {request: 15000, proof: 60000, quota: 3900000}

  # DNS names that are not behind the CDN. Nothing is done with them but that each plan lists what to set; seconds.
  #   record     the type, where it is not what the value looks like (A, AAAA or CNAME)
  # names: {files.example.org: {node: app1, ttl: 300}, example.org: {values: {old: 203.0.113.21, new: 198.51.100.21}, ttl: 3600}}

  # The search for old addresses and names (docs/addresses.md). Old addresses are those of the nodes above.
  addresses:
    # The old networks. With `new`, a network of the same size takes its place; without any, /24 around each private address.
    ranges:
      - {old: 10.70.0.0/24, new: 10.80.0.0/24}
    # By old node: old name -> new name. Names that are the same on both sides need not be here.
    names:
      db1: {db1.old.internal: db1.new.internal, masterdb: primarydb}
    # Old domain -> new domain, for NODE.domain of every old node.
    domains: {old.internal: new.internal}
    # What people use stays, whatever it resembles; the hosts of `vhosts` below are public as well.
    # public: [docs.example.org, project.example.org]
    # Old node -> new node, where the names differ: many may become one.
    # becomes: {db2: db1}
    # Links from the new side to the old that are meant to be: for the files that say so (`paths`), and for the tripwire.
    # `from` is a new node (left out: any of them), `to` an old one. What the migration itself needs is known to the tripwire already; but
    # for the controller's own way to the databases, where it is a node of the new side.
    # allowed: [{from: app1, to: db1, port: 3306, paths: ['**/replication/*']}]
    # Path patterns by level or environment: salt-run salt.cmd migrate_addresses.remap scope=production
    # scopes: {production: ['/srv/pillar/production/**'], staging: ['/srv/pillar/staging/**']}
    # Trees that are searched when none are named, here and on live nodes.
    # roots: [/srv]
    # live: [/etc]
    # Database columns that may hold addresses.
    # columns: [wpstats.piwik_site.main_url]
    # Path patterns that are left out, and the size in bytes from which a file is named and not read.
    # ignore: ['**/.git', '**/.hg', '**/.svn']
    # max_file_size: 67108864

  # What people call, and the new node that serves it: hosts-file lines for testers, the check through them, and what flip and revert
  # read, at the node of that name over there, before they send people to it (docs/flip.md, warming).
  #   port, ca   where the port is not the scheme's own; a file with an authority beside the public ones
  # vhosts: {docs: {hosts: [docs.example.org], node: app1, path: /wiki/Main_Page, scheme: https, status: 200, holds: Welcome}}

  # Rules of the packet filter that count what still crosses between the sides; a gate of the flip where this key is here.
  #   quiet         seconds without a crossing that the flip asks for
  #   host_seconds  seconds to wait for a host's answer
  # tripwire: {quiet: 900, host_seconds: 10}

  # How to reach the clouds' APIs; the keys are those of clouds.yaml. Prepare and clean-up need them.
  clouds:
    # An entry of clouds.yaml. The old cloud's API may be gone: then take the whole key out.
    old: {cloud: old-provider}
    new:
      auth:
        auth_url: 'https://identity.example.net:5000/v3'
        username: migrate
        password: 'sdb://migrate/openstack'
        # Or project_id.
        project_name: site
        # user_domain_name: Default
        # project_domain_name: Default
      # Instead of user and password: application_credential_id and application_credential_secret.
      # region_name: RegionOne
      # public (default), internal or admin.
      # interface: public
      # The authority that signed the API's certificate, where it is a private one.
      # cacert: /etc/ssl/certs/provider-ca.pem
      # Milliseconds.
      # deadlines: {connect: 5000, request: 60000}

  # What the new cloud is to have. migrate_openstack.inventory proposes it from the old side.
  prepare:
    # The word by which what is ours is known in the cloud; two sites in one project need two.
    # site: site
    # A network of the new cloud, by name or id; addresses are those of migrate:nodes:new.
    network: site-net
    # By name or id; a server may have another.
    image: debian-12
    servers:
      # ram in MiB, disk in GiB. A flavor named here overrules the match.
      relay: {vcpus: 2, ram: 2048, disk: 60, security_groups: [db]}
      db1:   {vcpus: 4, ram: 16384, disk: 480, security_groups: [db], key_pair: ops}
      db2:   {vcpus: 4, ram: 16384, disk: 480, security_groups: [db], key_pair: ops}
      app1:
        vcpus: 4
        ram: 8192
        disk: 240
        security_groups: [web, default]
        key_pair: ops
        # flavor: app.large
        # image: debian-12
        # availability_zone: nova
        # Blank volumes, attached to it; GiB. Without a type the cloud chooses. What was on the old ones is yours to carry.
        # volumes:
        #   files: {gigabytes: 200, type: ssd, availability_zone: nova}
        # What the flavor must have.
        # extra_specs: {'hw:cpu_policy': shared}
    # Groups of ours. A server may also name one that is there and is not described here. `from` is a network or a group of this pillar,
    # `ports` one port or '8000-8010'; what is left out of protocol and ports is not restricted.
    security_groups:
      db:
        rules:
          - {protocol: tcp, ports: 3306, from: web}
          - {protocol: tcp, ports: 3306, from: db}
          # The old side and the controller: replication, the way back, this tool.
          - {protocol: tcp, ports: 3306, from: 10.70.0.0/24}
          - {protocol: tcp, ports: 3306, from: 10.80.0.5/32}
          # The copies.
          - {protocol: tcp, ports: 4444, from: 10.70.0.0/24}
          - {protocol: tcp, ports: 4444, from: db}
      # Beside these: 4445 on the new deployment node from the old one, 4446 on nodes of `uploads` (on the old one too, for the way
      # back), 4505 and 4506 on masters from every node (docs/what-it-needs.md).
      web:
        rules:
          - {protocol: tcp, ports: 80, from: 0.0.0.0/0}
          - {protocol: tcp, ports: 443, from: 0.0.0.0/0}
          - {protocol: icmp, from: 10.80.0.0/24}
    # Public keys.
    key_pairs:
      ops: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKHEChAOWMvmtqSQFXUZxKwFx9yDZWZZbYOYzn9rwmLF ops@example.org'
    # Nodes that shall not share a hypervisor.
    # apart: {databases: [db1, db2]}
    # By how many percent a flavor may fall short of vcpus, ram and disk.
    # allow_smaller: 0
    # How many servers the cloud builds at once, at most; halved where it says that it has enough.
    # at_once: 8
    # Whom a new minion obeys (default: the name `salt`); with deployment:master all minions do. Name both masters until clean-up, the
    # new one first.
    # masters: [10.80.0.5, 10.70.0.5]
    # What a new server runs at its first boot, once its minion is configured; by default the image's minion is restarted.
    # first_boot: ['systemctl enable salt-minion.service', 'systemctl restart salt-minion.service']
    # Nodes of the old side that stay where they are.
    # leave: [stray]
    # Milliseconds: until a server is up, between two looks, and until a new host's minion answers.
    # deadlines: {server: 600000, tick: 1000, host: 600000}
    # The relay and the new databases: configured, copied from the old side while it runs on, and put into the chain. Without
    # this key they are left alone. Backup tools read as root, through the server's socket.
    databases:
      # What the site's databases are: mariadb or mysql. It decides over packages, units, configuration and the way of a copy.
      # family: mariadb
      # The old server that is copied: the primary, or a replica of it.
      from: db1
      # Over it a new server takes its copy in, by TLS; open it from `from` to the first new server, and among the new ones.
      # port: 4444
      # How fast a copy travels at least: binlogs must be kept for long enough.
      # megabytes_per_second: 20
      # packages: [mariadb-server, mariadb-backup, socat, openssl]   # mysql: [mysql-server, socat, openssl]
      # MySQL: where a server that is copied puts its copy first: outside of its data, and open to its own user.
      # clone_folder: /var/lib/mysql-files
      # folder: /var/lib/saltext-migrate/carry
      # How a server is started and stopped; $DEFAULTS_FILE is the `defaults_file` of its node.
      # start: systemctl start mariadb.service
      # stop: systemctl stop mariadb.service
      # Server settings of all new databases, beside those that the chain needs.
      options: {max_connections: 500}
      # And of one. Its server_id is made of its address where none is given.
      servers:
        db1:
          options: {innodb_buffer_pool_size: 12G}
        # relay: {server_id: 30}
      # Milliseconds: until a copy has arrived, and until it has caught up.
      # deadlines: {seed: 86400000, catch_up: 86400000}
    # A new database that is backed up on its own host, and restored from that to a given moment; a flip asks for it.
    # backup:
    #   node: db2
    #   # With room for the data twice.
    #   folder: /srv/backup/migrate
    #   # A tool of your own: it takes a backup, and puts it into $INTO as mariadb-backup --prepare (MySQL: CLONE) leaves one.
    #   take: /usr/local/bin/backup now
    #   restore: /usr/local/bin/backup restore --into "$INTO"
    #   # For how long it counts, and milliseconds for either.
    #   hours: 168
    #   limit: 86400000
    # What moves from the old deployment node to the new one; both are nodes with a minion.
    # deployment:
    #   old: deployment
    #   new: deployment
    #   # Over it the new node takes the files in, by TLS.
    #   port: 4445
    #   # Each as it is, or {old: /srv/salt, new: /srv/states}.
    #   paths: [/srv/code, /srv/salt, /srv/pillar, /etc/salt]
    #   # Names, or whole paths of the old node, that stay as they are on both.
    #   exclude: [/etc/salt/minion, /etc/salt/minion_id, /etc/salt/minion.d, /etc/salt/pki/minion]
    #   packages: [rsync, socat, openssl, b3sum, attr]
    #   folder: /var/lib/saltext-migrate/carry
    #   # Milliseconds for the passes.
    #   limit: 14400000
    #   # Its Salt master is started, and minions of both sides obey every one of `masters` until clean-up. Without this key nothing
    #   # of that is done; {} takes every default.
    #   master:
    #     start: systemctl enable --now salt-master.service
    #     stands: systemctl is-active --quiet salt-master.service
    #     # How it asks minions, and how a minion is restarted, from outside of it.
    #     ask: salt
    #     restart: "systemd-run --quiet --collect sh -c 'sleep 1; exec systemctl restart salt-minion.service'"
    #     # Milliseconds for a minion to come back, and then for all to be heard.
    #     limit: 120000
    # The site's own states: dry-run on nodes of the old side, run until they rest on nodes of the new.
    # highstate: {old: [app1], new: [app1]}

  # What is compared between old and new (docs/test.md); every service of vhosts is, at its node on both sides.
  # As it stands here, without any value, nothing is compared and the flip does not ask. `{}` takes every default; it needs vhosts.
  compare:
    # paths: {docs: [/wiki/Main_Page, '/wiki/Special:RecentChanges']}
    # sitemaps: {docs: /sitemap.xml}
    # An access log on this machine: what is asked for most is compared.
    # access_logs: {docs: /srv/logs/docs.log}
    # Paths of one service at most, and how many at once.
    # most: 200
    # at_once: 4
    # What may differ: parts of a page that hold one of these texts, and response headers.
    # ignore: [wgHostname]
    # ignore_headers: [x-served-by]
    # What must be refused on the new side, and where the notice of the test must show.
    # edits: [{vhost: docs, path: /api.php, form: {action: edit, title: Test, text: x, token: '+\'}, refused: readonly}]
    # notices: [{vhost: docs, path: '/index.php?title=Main_Page&action=edit'}]
    # By way of the origin (past the CDN), of the copied service (copy), of the CDN's staging network (staged).
    # ways: [origin]
    # certificate_days: 14
    # slower: 2
    # Hours for which a comparison holds, and milliseconds for one answer.
    # valid_hours: 72
    # answer: 15000

  # The time in which people try the new side (docs/test.md).
  test:
    notice: 'This is a test site: edits are not saved.'
    # A file that keeps search engines out, and the service that is reloaded for it; without `service` nothing is.
    # noindex:
    #   path: /etc/nginx/conf.d/saltext-migrate-noindex.conf
    #   content: "add_header X-Robots-Tag \"noindex, nofollow\" always;\n"
    #   service: nginx
    # What the community is told: salt-run migrate.announcement
    # announcement: {when: 'Sunday, 6 December, 04:00 UTC', contact: ops@example.org, limits: [searching], template: 'Soon: {when}'}

  # Files that people write through the site, by a name for each lot (docs/uploads.md). Both nodes have a minion.
  #   port      over it either node takes files in, by TLS
  #   paths     each as it is, or {old: /srv/images, new: /srv/storage/images}
  #   exclude   names, or whole paths of the old node, that stay where they are
  #   limit     milliseconds for all passes of one step
  #   packages, folder  what both nodes need for it, and where they keep it
  # uploads:
  #   wiki: {old: app1, new: app1, port: 4446, paths: [/srv/images], exclude: [thumb], limit: 14400000,
  #          packages: [rsync, socat, openssl, b3sum, attr], folder: /var/lib/saltext-migrate/carry}

  # What must run on one side alone, by name: a service, or a file of cron. Held on the new side by the test, and
  # handed over by flip and revert.
  # singletons: {jobs: {node: app1, service: mw-jobs}, dumps: {node: db2, cron: /etc/cron.d/dumps}}

  # What stands still from just before the window until clean-up or revert: `lock` on `nodes`, `highstate` and `crons` on the hosts of the
  # databases, the relay's too.
  # A file that `singletons` holds on a database's host is refused in `crons`.
  # freeze: {lock: /srv/deploy.lock, nodes: [app1], highstate: true, crons: [/etc/cron.d/reports]}

  # A node of the new side whose database follows like the others, and that nobody would miss: on it salt-run migrate.rehearse
  # opens and fences a database as the flip does (docs/test.md). Neither the new primary nor the relay; best one that is under
  # databases:new:replicas only until prepare has made it. Left out, only the CDN is rehearsed.
  # rehearsal: {replica: db2}

  # Who must say go: salt-run migrate.signoff role=operations note='...'; and for how many hours that holds.
  # signoff: {flip: [operations, editors], cleanup: [operations], hours: 72}

  # What goes in the end (docs/cleanup.md).
  cleanup:
    # Hours for which the new side must have served (fractions too), and the words that must stand here.
    # soak_hours: 168
    # give_up_revert: 'there is no way back'
    # Hours in which nobody may have come to an old node, by the tripwire; left out, it is the whole time since the flip.
    # quiet_hours: 24
    # Servers of the old cloud, node by node, each with its id there; stopped first, and deleted after so many hours.
    # old_nodes: {app1: 5e5a3d2e-6f0b-4a5c-9a54-0d3a6f3b8a11}
    # stopped_hours: 336
    # What prepare made for the time of the move alone.
    # temporary: {servers: [relay], security_groups: [], key_pairs: [], apart: []}
    # database_users: [migrate_marker]
    # Public keys that go, by user.
    # ssh_keys: {root: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKHEChAOWMvmtqSQFXUZxKwFx9yDZWZZbYOYzn9rwmLF move']}
    # The last backup of the old side: a file on the host of one of its nodes; options of the dump program, and seconds.
    # That node goes only once it is said where people carried the file: `carried_to`, a text beside these, and not before.
    # backup: {node: db2, path: /srv/backup/last.sql.gz, options: '', seconds: 3600}
    # Further credentials that the report lists to be changed.
    # rotate: [the mail relay's password]
