# Cuts the site over to the new side: salt-run state.orchestrate migrate.flip [test=True]
flip:
  migrate.flipped: []
