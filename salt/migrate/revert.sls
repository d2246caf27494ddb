# And all the way back, after writes too: salt-run state.orchestrate migrate.revert [test=True]
revert:
  migrate.reverted: []
