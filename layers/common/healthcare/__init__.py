import gc

gc.set_threshold(100_000)  # a cold start makes many objects, and next to no garbage
