# Fills the new cloud: salt-run state.orchestrate migrate.prepare [test=True]
prepare:
  migrate.prepared: []
