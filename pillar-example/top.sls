# Only the master-side minion of an orchestration (<master id>_master) may read the migration's secrets. Put what
# `salt-run config.get id` says here, and no pattern: a minion that matched would read them too.
base:
  'salt.example.org_master':
    - migrate
