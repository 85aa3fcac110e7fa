from hypothesis import settings

# No deadline: property tests must not fail on a busy machine.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
