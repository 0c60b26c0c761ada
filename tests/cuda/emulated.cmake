# The CUDA device without a GPU or a toolkit: autograd built once more with its .cu files as C++ on an emulated device
# (emulate.h), whose row takes the place of the real one. What cannot be emulated (cuBLASLt, the CUDA runtime)
# is in autograd/cuda/nvcc, and its twin here.
enable_language(CXX)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_FLAGS_RELEASE "-O2")
file(GLOB emulated_c CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/autograd/*.c ${PROJECT_SOURCE_DIR}/autograd/ops/*.c
     ${PROJECT_SOURCE_DIR}/autograd/formats/*.c ${PROJECT_SOURCE_DIR}/autograd/cpu/*.c ${CMAKE_CURRENT_SOURCE_DIR}/cuda/*.c)
file(GLOB emulated_cuda_c CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/autograd/cuda/*.c)
file(GLOB emulated_cu CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/autograd/cuda/*.cu ${PROJECT_SOURCE_DIR}/autograd/ops/*.cu
     ${PROJECT_SOURCE_DIR}/autograd/formats/*.cu)
add_library(autograd_emulated STATIC ${emulated_c} ${emulated_cuda_c} ${emulated_cu})
target_compile_definitions(autograd_emulated PUBLIC LOQUAT_CUDA)
target_include_directories(autograd_emulated
    PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/cuda ${PROJECT_SOURCE_DIR}/autograd ${PROJECT_SOURCE_DIR}/autograd/cuda
    PRIVATE ${PROJECT_SOURCE_DIR}/autograd/cpu ${PROJECT_SOURCE_DIR}/autograd/formats)
target_link_libraries(autograd_emulated PUBLIC lq_base PRIVATE PkgConfig::OPENBLAS OpenMP::OpenMP_C)
set_source_files_properties(${avx2_sources} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c")
set_source_files_properties(${avx512_sources} PROPERTIES COMPILE_OPTIONS "${avx512_flags}")

# lq_emulated_sources(file.cu...): C++ for the host compiler, in this folder's targets.
function(lq_emulated_sources)
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS -Wno-unknown-pragmas)
endfunction()
lq_emulated_sources(${emulated_cu})

# lq_check_emulated(name source...): a test program on the emulated device; its .cu files are emulated, too.
function(lq_check_emulated name)
    add_executable(check_${name} ${ARGN})
    set(cu ${ARGN})
    list(FILTER cu INCLUDE REGEX "\\.cu$")
    if(cu)
        lq_emulated_sources(${cu})
    endif()
    target_include_directories(check_${name} PRIVATE ${PROJECT_SOURCE_DIR}/autograd/cpu)
    target_link_libraries(check_${name} PRIVATE lq_test_util autograd_emulated)
    lq_register(${name})
endfunction()

# In a build for GPUs weigh.cu is there twice; this directory compiles it as C++, its own one with nvcc.
if(LOQUAT_HAS_CUDA)
    add_subdirectory(cuda)
endif()
function(lq_weigh_on_gpu check)
    if(LOQUAT_HAS_CUDA)
        target_sources(${check} PRIVATE $<TARGET_OBJECTS:weigh_on_gpu>)
    endif()
endfunction()

# lq_check_gpu(name folders source...): the same test on a GPU, where the build has the device: check_<name>_gpu.
function(lq_check_gpu name folders)
    if(NOT LOQUAT_HAS_CUDA)
        return()
    endif()
    add_executable(check_${name}_gpu ${ARGN})
    target_include_directories(check_${name}_gpu PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/cuda)
    list(TRANSFORM folders PREPEND lq_)
    target_link_libraries(check_${name}_gpu PRIVATE lq_test_util ${folders})
    lq_register(${name}_gpu)
endfunction()

# Everything above autograd as it is, on the emulated device.
set(emulated_objects)
foreach(folder base data models adapters optim configs trainer)
    list(APPEND emulated_objects $<TARGET_OBJECTS:lq_${folder}>)
endforeach()
add_library(loquat_emulated STATIC ${emulated_objects})
foreach(folder data models adapters optim configs trainer)
    target_include_directories(loquat_emulated PUBLIC ${PROJECT_SOURCE_DIR}/${folder})
endforeach()
target_link_libraries(loquat_emulated PUBLIC autograd_emulated ${libraries})
add_executable(loquat_on_emulated ${cli_sources})
target_include_directories(loquat_on_emulated PRIVATE ${PROJECT_SOURCE_DIR}/trainer/cli)
target_link_libraries(loquat_on_emulated PRIVATE loquat_emulated)

# lq_link_emulated(check target...): the folders' targets in a test on the emulated device, whose autograd comes as objects:
# so nothing is left for theirs to define.
function(lq_link_emulated check)
    target_sources(${check} PRIVATE $<TARGET_OBJECTS:autograd_emulated>)
    target_link_libraries(${check} PRIVATE ${ARGN})
endfunction()
