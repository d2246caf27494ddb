# Takes down what was made for the move, and the old side after it: salt-run state.orchestrate migrate.cleanup [test=True]
cleanup:
  migrate.cleaned: []
