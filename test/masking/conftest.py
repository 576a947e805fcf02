"""What the tests of masking share."""

from hypothesis import settings

settings.register_profile("fedn_py", deadline=None)  # a busy machine is no fault
settings.load_profile("fedn_py")
