lq_check(config configs)
lq_check(config_check configs)
lq_check(schema configs)
lq_fuzz(config configs)
