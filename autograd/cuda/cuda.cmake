# LOQUAT_CUDA: device 'cuda' in this build. AUTO takes what is there; nothing of it is needed to build or test the rest.
set(LOQUAT_CUDA AUTO CACHE STRING "device 'cuda': AUTO (if nvcc and cuBLAS are found), ON, OFF")
set(LOQUAT_CUDA_ARCHITECTURES "80-real;86-real;89-real;90-real;100-real;120" CACHE STRING
    "GPUs to compile for; the last also as PTX, for later ones. Fewer build faster: 'native' is this machine's")
set(LOQUAT_HAS_CUDA OFF)

function(lq_find_cuda)
    if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.18 AND NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
        set(CMAKE_CUDA_ARCHITECTURES OFF) # for CMake's own test of the compiler
    endif()
    include(CheckLanguage)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
        find_package(CUDAToolkit 12.8 QUIET)
    endif()
    set(missing)
    foreach(thing CMAKE_CUDA_COMPILER CUDAToolkit_FOUND)
        if(NOT ${thing})
            list(APPEND missing ${thing})
        endif()
    endforeach()
    if(NOT missing)
        set(LOQUAT_HAS_CUDA ON PARENT_SCOPE)
    elseif(LOQUAT_CUDA STREQUAL "ON")
        message(FATAL_ERROR "LOQUAT_CUDA is ON, but not found: ${missing}")
    endif()
endfunction()

if(LOQUAT_CUDA STREQUAL "ON" AND LOQUAT_SANITIZE)
    message(FATAL_ERROR "LOQUAT_SANITIZE builds without device 'cuda'; LOQUAT_CUDA is ON")
endif()
if(NOT LOQUAT_CUDA STREQUAL "OFF" AND NOT LOQUAT_SANITIZE)
    lq_find_cuda()
endif()
message(STATUS "device 'cuda': ${LOQUAT_HAS_CUDA}")

if(LOQUAT_HAS_CUDA)
    set(CMAKE_CUDA_ARCHITECTURES ${LOQUAT_CUDA_ARCHITECTURES})
    set(CMAKE_CUDA_STANDARD 17)
    set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
    enable_language(CUDA)
    find_package(CUDAToolkit 12.8 REQUIRED)
    # The host side needs nothing of C++'s run-time library, so programs are linked as C.
    string(APPEND CMAKE_CUDA_FLAGS " -Xcompiler=-fno-exceptions,-fno-rtti,-fno-threadsafe-statics -Wno-deprecated-gpu-targets")
    file(GLOB cuda_sources CONFIGURE_DEPENDS autograd/cuda/*.c autograd/cuda/*.cu autograd/cuda/nvcc/*.cu
         autograd/ops/*.cu autograd/formats/*.cu)
    # Quantizers give the CPU's bytes, which are computed without contraction.
    file(GLOB exact_sources CONFIGURE_DEPENDS autograd/formats/*.cu)
    list(APPEND exact_sources ${CMAKE_CURRENT_SOURCE_DIR}/autograd/cuda/effective.cu
         ${CMAKE_CURRENT_SOURCE_DIR}/autograd/cuda/span.cu)
    set_source_files_properties(${exact_sources} PROPERTIES COMPILE_OPTIONS --fmad=false)
    target_sources(lq_autograd PRIVATE ${cuda_sources})
    target_include_directories(lq_autograd PUBLIC autograd/cuda PRIVATE autograd/cuda/nvcc)
    target_compile_definitions(lq_autograd PUBLIC LOQUAT_CUDA
        PRIVATE LOQUAT_CUDA_LIBRARY_DIR="${CUDAToolkit_LIBRARY_DIR}")
    set(LOQUAT_CUDA_LIBRARIES CUDA::cudart_static)
    set(LOQUAT_CUDA_PC_LIBRARIES "-L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -ldl -lrt")
    target_link_libraries(lq_autograd PRIVATE ${LOQUAT_CUDA_LIBRARIES})
    set_target_properties(lq_autograd PROPERTIES CUDA_ARCHITECTURES "${LOQUAT_CUDA_ARCHITECTURES}" CUDA_STANDARD 17
        CUDA_RESOLVE_DEVICE_SYMBOLS OFF)
endif()
