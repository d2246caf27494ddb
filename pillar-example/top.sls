# Only the master-side minion of an orchestration (<master id>_master) may read the migration's secrets.
base:
  '*_master':
    - migrate
