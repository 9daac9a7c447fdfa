/* The only file that knows simdjson, and the only one in C++. Contract: json_index.h.
 *
 * simdjson's On-Demand front end is not used, only the stage beneath it. Its iterators are inlined
 * and compiled for the caller's flags, skip what nobody asks for, and accept some texts that are no
 * JSON when values are skipped; a record has to be checked everywhere. Stage 1 is an ordinary
 * virtual function of the shared library, so one baseline build of this file runs on AVX-512
 * machines at their speed, and no inline function exists in two versions for the linker to mix up.
 *
 * The calls used (create_dom_parser_implementation, set_capacity, stage1, structural_indexes) are
 * marked as internal, but On-Demand itself makes them from its header. What they must keep is
 * written in json_index.h, and tests/unit/core/test_event_parser_json.c and
 * tests/property/test_event_parser_jansson.c check it for each instruction set.
 */
#include <memory>
#include <new>
#include <string>

#include <simdjson.h>

#include "core/records/json_index.h"

namespace
{

constexpr size_t initial_capacity = 16 * 1024;

enum status stage1_fault(simdjson::error_code code, struct error *error)
{
    switch (code) {
    case simdjson::EMPTY:
        return error_set(error, STATUS_REJECT, "not a JSON object: nothing but white space");
    case simdjson::UNCLOSED_STRING:
        return error_set(error, STATUS_REJECT, "not valid JSON: a string does not end");
    case simdjson::UNESCAPED_CHARS:
        return error_set(error, STATUS_REJECT, "not valid JSON: a control character in a string");
    case simdjson::UTF8_ERROR:
        return error_set(error, STATUS_REJECT, "not valid JSON: not UTF-8");
    default:
        return error_set(error, STATUS_REJECT, "not valid JSON: %s", simdjson::error_message(code));
    }
}

} // namespace

struct json_index {
    std::unique_ptr<simdjson::internal::dom_parser_implementation> implementation;
};

extern "C" enum status json_index_create(struct json_index **out, struct error *error)
{
    *out = nullptr;
    std::unique_ptr<json_index> index(new (std::nothrow) json_index);
    if (!index)
        return error_no_memory(error);
    const simdjson::implementation *active = simdjson::get_active_implementation();
    /* Depth 1: the nesting stacks belong to stage 2, which never runs. */
    if (active->create_dom_parser_implementation(initial_capacity, 1, index->implementation) !=
            simdjson::SUCCESS ||
        !index->implementation)
        return error_no_memory(error);
    *out = index.release();
    return STATUS_OK;
}

extern "C" void json_index_destroy(struct json_index *index)
{
    delete index;
}

extern "C" enum status json_index_build(struct json_index *index, const char *json, size_t length,
                                        const uint32_t **starts, size_t *count, struct error *error)
{
    simdjson::internal::dom_parser_implementation &stage = *index->implementation;
    if (length > stage.capacity()) {
        size_t capacity = initial_capacity; /* not stage.capacity(): 0 after a failure */
        while (capacity < length)
            capacity *= 2;
        if (stage.set_capacity(capacity) != simdjson::SUCCESS)
            return error_no_memory(error);
    }
    const simdjson::error_code code = stage.stage1(reinterpret_cast<const uint8_t *>(json), length,
                                                   simdjson::stage1_mode::regular);
    if (code != simdjson::SUCCESS)
        return stage1_fault(code, error);
    *starts = stage.structural_indexes.get();
    *count = stage.n_structural_indexes;
    return STATUS_OK;
}

extern "C" const char *json_index_target(void)
{
    static const std::string name = simdjson::get_active_implementation()->name();
    return name.c_str();
}
