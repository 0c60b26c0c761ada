lq_check(build models tiny_model)
lq_check(build_limits models tiny_model)
lq_check(hparams models)
lq_check(inspect models tiny_model)
lq_check(model models tiny_model)
# Many short runs: threads that spin while others want the cores make them ten times slower.
lq_fuzz(model models)
target_link_libraries(fuzz_model PRIVATE lq_tiny_model)
