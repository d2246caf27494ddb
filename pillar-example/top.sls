# Only the master-side minion of an orchestration (<master id>_master) may read the migration's secrets. Put the id of your
# master here, and no pattern: a minion that matched would read them too.
base:
  'salt.example.org_master':
    - migrate
