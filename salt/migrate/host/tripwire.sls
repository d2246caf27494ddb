# The tripwire of one host; the orchestration migrate.tripwire hands in its rules. They drop nothing.
{%- set watch = pillar['tripwire'] %}
{%- set file = '/etc/saltext-migrate/tripwire.nft' %}
nftables:
  pkg.installed: []

{{ file }}:
  file.managed:
    - makedirs: True
    - mode: '0644'
    - contents: {{ watch['rules'] | tojson }}

# Loading the same rules again would begin the watch anew.
saltext-migrate-tripwire-loaded:
  cmd.run:
    - name: nft -f {{ file }}
    - unless: nft list counter inet saltext_migrate_tripwire {{ watch['mark'] }}
    - require:
      - pkg: nftables
      - file: {{ file }}

/etc/systemd/system/saltext-migrate-tripwire.service:
  file.managed:
    - mode: '0644'
    - contents: |
        [Unit]
        Description=Counts what crosses between the sides of a migration
        After=nftables.service
        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/usr/sbin/nft -f {{ file }}
        ExecStop=-/usr/sbin/nft delete table inet saltext_migrate_tripwire
        [Install]
        WantedBy=multi-user.target

saltext-migrate-tripwire-at-boot:
  cmd.run:
    - name: systemctl enable saltext-migrate-tripwire.service
    - unless: systemctl is-enabled saltext-migrate-tripwire.service
    - onlyif: test -d /run/systemd/system
    - require:
      - file: /etc/systemd/system/saltext-migrate-tripwire.service
