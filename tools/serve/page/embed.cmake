# The chat page inside the binary. Two halves of one file:
#   included from the top CMakeLists.txt: a rule that makes page_data.c from the files of this folder whenever one of them changes;
#   run as a script (cmake -DOUT=... -P embed.cmake): makes it. Bytes as they are, no other tool; the ETag is the file's own hash.
# SPDX-License-Identifier: Apache-2.0
if(CMAKE_SCRIPT_MODE_FILE)
  file(GLOB files ${CMAKE_CURRENT_LIST_DIR}/*.html ${CMAKE_CURRENT_LIST_DIR}/*.css ${CMAKE_CURRENT_LIST_DIR}/*.js ${CMAKE_CURRENT_LIST_DIR}/*.svg)
  list(SORT files)
  set(arrays "")
  set(rows "")
  set(n 0)
  foreach(path ${files})
    get_filename_component(name ${path} NAME)
    file(READ ${path} hex HEX)
    file(SHA256 ${path} hash)
    string(SUBSTRING ${hash} 0 32 hash)
    string(REGEX REPLACE "(................................................................)" "\\1\n" hex "${hex}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
    string(APPEND arrays "static const unsigned char file_${n}[] = {\n${hex}0};\n")
    string(APPEND rows "    {\"${name}\", (const char *)file_${n}, sizeof file_${n} - 1, \"\\\"${hash}\\\"\"},\n")
    math(EXPR n "${n} + 1")
  endforeach()
  file(WRITE ${OUT} "// Made by tools/serve/page/embed.cmake from the files beside it.\n#include \"tools/serve/page_files.h\"\n\n${arrays}\n"
    "const page_file page_files[] = {\n${rows}};\nconst size_t n_page_files = ${n};\n")
  return()
endif()

file(GLOB page_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.html ${CMAKE_CURRENT_LIST_DIR}/*.css ${CMAKE_CURRENT_LIST_DIR}/*.js
  ${CMAKE_CURRENT_LIST_DIR}/*.svg)
add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/page_data.c
  COMMAND ${CMAKE_COMMAND} -DOUT=${CMAKE_BINARY_DIR}/page_data.c -P ${CMAKE_CURRENT_LIST_FILE}
  DEPENDS ${page_sources} ${CMAKE_CURRENT_LIST_FILE} COMMENT "Embedding the chat page" VERBATIM)
target_sources(wtl_tools PRIVATE ${CMAKE_BINARY_DIR}/page_data.c)
