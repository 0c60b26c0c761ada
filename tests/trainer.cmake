# The trainer's tests run the program as users do; they see the library for fixtures only.
add_library(lq_run_fixture STATIC run_fixture.c)
target_link_libraries(lq_run_fixture PUBLIC lq_test_util lq_tiny_model)
target_compile_definitions(lq_run_fixture PUBLIC LOQUAT_PROGRAM="$<TARGET_FILE:loquat>")

lq_check(importance trainer tiny_model)
lq_check(logits_file trainer)
lq_check(divergence trainer)
lq_check(evaluate trainer run_fixture)
lq_check(telemetry trainer run_fixture)
lq_check(bootstrap trainer)
lq_check(output_dir trainer)
lq_check(compare trainer run_fixture)
target_sources(check_compare PRIVATE hf_fixture.c)
lq_check(train trainer run_fixture)
lq_check(prepare trainer run_fixture)
lq_check(cli trainer run_fixture)
lq_check(session trainer run_fixture)
lq_check(resume trainer run_fixture)
lq_check(trainer_memory trainer run_fixture)
lq_check(distil trainer run_fixture)
lq_check(recipe trainer run_fixture)
lq_check(device_runs trainer run_fixture)
target_compile_definitions(check_device_runs PRIVATE LOQUAT_EMULATED="$<TARGET_FILE:loquat_on_emulated>")
add_dependencies(check_device_runs loquat_on_emulated)
set_tests_properties(device_runs PROPERTIES COST 1000) # the longest: begins first
if(LOQUAT_HAS_CUDA) # for scripts/check_gpu.sh: fails where there is no GPU
    add_executable(check_device_runs_gpu check_device_runs.c)
    target_link_libraries(check_device_runs_gpu PRIVATE lq_test_util lq_trainer lq_run_fixture)
    target_compile_definitions(check_device_runs_gpu PRIVATE LOQUAT_EMULATED="$<TARGET_FILE:loquat>")
    add_dependencies(check_device_runs_gpu loquat)
endif()
foreach(name device_runs compare telemetry evaluate train prepare cli session resume distil recipe)
    add_dependencies(check_${name} loquat)
endforeach()
set_tests_properties(resume PROPERTIES TIMEOUT 600)

# As an outsider uses an installation.
add_executable(make_tiny make_tiny.c)
target_link_libraries(make_tiny PRIVATE lq_tiny_model)
add_test(NAME install COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/check_install.sh
    ${PROJECT_BINARY_DIR} ${PROJECT_SOURCE_DIR} $<TARGET_FILE:make_tiny>
    "$<$<BOOL:${LOQUAT_SANITIZE}>:-fsanitize=address,undefined>")
