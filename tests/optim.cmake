lq_check(optim optim)
lq_check(schedule optim)
