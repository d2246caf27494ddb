# The whole migration, in one key. Every value the tool reads is named here; what is commented out shows its default.
# Secrets are sdb:// references, or values of a gpg-rendered pillar: they are resolved inside, and never printed.
migrate:

  # Where the journal, the lock and the reports live: outside Salt's cache, on the Salt master that runs the flip.
  # state_dir: /var/lib/saltext-migrate

  # The nodes of both clouds. The same name on both sides is the same part of the site, before and after.
  #   private   address inside its cloud; database connections and CDN backends are matched against it
  #   public    address that the CDN and people reach, where the node has one
  #   minion    Salt minion id, where the node is (or will be) a minion of this master
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
    # Accounts that keep READ ONLY ADMIN or SUPER and are known to be quiet (backup, monitoring).
    # may_bypass_fence: [root, mariadb.sys]
    # A file each database server reads at boot; holds the role, so that a reboot does not undo the flip.
    # role_file: /etc/mysql/mariadb.conf.d/99-saltext-migrate.cnf
    # Where both primaries keep a page of plain SQL, for the night on which controller and guard are dead.
    # break_glass_file: /var/lib/saltext-migrate/break-glass.txt
    # Verified TLS to the servers and between them. Without it the connections are in clear.
    # tls: {ca: /etc/ssl/certs/site-ca.pem}
    # Milliseconds. Overrun of any before the commit point sends everybody back.
    # deadlines: {connect: 5000, fence: 1000, catch_up: 2000, replication: 30000, abort: 60000, window: 15000}
    # A marker must cross the chain within this many milliseconds before anybody is bothered.
    # max_lag: 1000
    # Hours for which both primaries keep their binlogs: a server that is away longer has to be seeded anew.
    # soak_hours: 168

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
        # After the switch: nothing (default), all, or some surrogate keys: {keys: [front, nav]}.
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
    # The replication from the old primary is known to the tripwire already. Name the controller's own way to the databases.
    # allowed: [{from: relay, to: db1, port: 3306, paths: ['**/replication/*']}]
    # Path patterns by level or environment: salt-call migrate_addresses.remap scope=production
    # scopes: {production: ['/srv/pillar/production/**'], staging: ['/srv/pillar/staging/**']}
    # Trees that are searched when none are named, here and on live nodes.
    # roots: [/srv]
    # live: [/etc]
    # Database columns that may hold addresses.
    # columns: [wpstats.piwik_site.main_url]
    # Path patterns that are left out, and the size in bytes from which a file is named and not read.
    # ignore: ['**/.git', '**/.hg', '**/.svn']
    # max_file_size: 67108864

  # What people call, and the new node that serves it: hosts-file lines for testers, and the check through them.
  # vhosts: {docs: {hosts: [docs.example.org], node: app1, path: /wiki/Main_Page, scheme: https, status: 200, holds: Welcome}}

  # Rules of the packet filter that count what still crosses between the sides; a gate of the flip where this key is here.
  #   quiet         seconds without a crossing that the flip asks for
  #   host_seconds  seconds to wait for a host's answer
  # tripwire: {quiet: 900, host_seconds: 10}

  # How to reach the clouds' APIs; the keys are those of clouds.yaml. Only prepare needs them.
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
        # What the flavor must have.
        # extra_specs: {'hw:cpu_policy': shared}
    # Groups of ours. A server may also name one that is there and is not described here.
    security_groups:
      db:  {rules: [{protocol: tcp, ports: 3306, from: web}, {protocol: tcp, ports: 3306, from: db}]}
      web: {rules: [{protocol: tcp, ports: '80-443', from: 0.0.0.0/0}, {protocol: icmp, from: 10.80.0.0/24}]}
    # Public keys.
    key_pairs:
      ops: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKHEChAOWMvmtqSQFXUZxKwFx9yDZWZZbYOYzn9rwmLF ops@example.org'
    # Nodes that shall not share a hypervisor.
    # apart: {databases: [db1, db2]}
    # By how many percent a flavor may fall short of vcpus, ram and disk.
    # allow_smaller: 0
    # How many servers the cloud builds at once, at most; halved where it says that it has enough.
    # at_once: 8
    # Whom a new minion obeys. Name both masters until clean-up.
    # masters: [10.80.0.5, 10.70.0.5]
    # What a new server runs at its first boot, once its minion is configured; by default the image's minion is restarted.
    # first_boot: ['systemctl restart salt-minion.service']
    # Nodes of the old side that stay where they are.
    # leave: [stray]
    # Milliseconds: until a server is up, and between two looks.
    # deadlines: {server: 600000, tick: 1000}
