# Makes the new side a mirror that people may try: salt-run state.orchestrate migrate.test [test=True]
test:
  migrate.tested: []
