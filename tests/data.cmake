# Random models for the tests of every folder and for bench/: link `tiny_model`.
add_library(lq_tiny_model STATIC tiny_model.c)
target_include_directories(lq_tiny_model PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(lq_tiny_model PUBLIC lq_data lq_test_util)

# Vocabularies for the tests of tokenizers, templates and everything that needs tokens.
add_library(lq_vocab_fixture STATIC vocab_fixture.c)
target_include_directories(lq_vocab_fixture PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(lq_vocab_fixture PUBLIC lq_data)

lq_check(atomic_file data)
lq_check(batch data)
foreach(name dataset records)
    lq_check(${name} data tiny_model)
    target_sources(check_${name} PRIVATE record_fixture.c)
endforeach()
lq_check(gguf data)
lq_check(gguf_requantize data tiny_model)
lq_check(gguf_split data)
lq_check(h5 data)
lq_check(hash data)
lq_check(imatrix data)
foreach(name hf_tokenizer hf_tokenizer_write hf_vocab)
    lq_check(${name} data vocab_fixture)
    target_sources(check_${name} PRIVATE tokenizer_dir.c)
endforeach()
lq_check(jinja data)
lq_check(jsonl data)
lq_check(safetensors data)
lq_check(split data)
lq_check(store data tiny_model)
lq_check(template data)
lq_check(tokenizer data vocab_fixture)
lq_check(tokenizer_load data vocab_fixture)
lq_check(tokenizer_vectors data vocab_fixture)

# lq_fuzz(name folder): fuzz/fuzz_<name>.c on mutated seeds; more runs by hand: fuzz_<name> RUNS.
function(lq_fuzz name folder)
    add_executable(fuzz_${name} fuzz/fuzz_${name}.c fuzz/fuzz_main.c)
    target_link_libraries(fuzz_${name} PRIVATE lq_${folder})
    add_test(NAME fuzz_${name} COMMAND fuzz_${name})
endfunction()
lq_fuzz(gguf data)
lq_fuzz(template data)
lq_fuzz(tokenizer data)
target_link_libraries(fuzz_tokenizer PRIVATE lq_vocab_fixture)

# For conformance/check_templates.py, which compares with transformers.
add_executable(render_templates conformance/render_templates.c)
target_link_libraries(render_templates PRIVATE lq_data)

# For conformance/check_tokenizer.py, check_hf_tokenizer.py and check_hf_write.py, which compare with
# llama.cpp and tokenizers.
foreach(name loquat_tokens hf_vocab_gguf gguf_vocab_hf)
    add_executable(${name} conformance/${name}.c)
    target_link_libraries(${name} PRIVATE lq_data)
endforeach()
