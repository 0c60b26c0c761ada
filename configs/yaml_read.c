/* YAML into slots, through libyaml's documents. Only the shape is handled here: a mapping of keys,
 * sections one level down, and below a key a scalar, a list or a map. What a value means is its
 * kind's business. */
#include "schema.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

static int line_of(const lq_reader *r, const yaml_node_t *n) {
    return r->in_option ? LQ_LINE_OPTION : (int)n->start_mark.line + 1;
}

static const char *text_of(const yaml_node_t *n) { return (const char *)n->data.scalar.value; }

/* Nothing, ~ or null, not in quotes. */
static bool is_null(const yaml_node_t *n) {
    return n->type == YAML_SCALAR_NODE && n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           lq_text_is_null(text_of(n));
}

/* A scalar without NUL bytes, which C text cannot hold. */
static bool is_text(const yaml_node_t *n) {
    return n->type == YAML_SCALAR_NODE && strlen(text_of(n)) == n->data.scalar.length;
}

static const char *shape_of(const yaml_node_t *n) {
    if (n->type == YAML_SEQUENCE_NODE) return "a list";
    return n->type == YAML_MAPPING_NODE ? "a mapping" : "a NUL byte";
}

/* ---- values ---------------------------------------------------------------------------------- */

static lq_status wrong_shape(lq_slot *s, const yaml_node_t *n, const char *wanted) {
    lq_slot_mistake(s, "found %s, wanted %s", shape_of(n), wanted);
    return LQ_OK;
}

static lq_status set_map(lq_slot *s, yaml_document_t *doc, const yaml_node_t *map) {
    const lq_kind *kind = s->key->kind;
    if (!kind->pair) return wrong_shape(s, map, kind->wanted);
    if (kind->begin) LQ_TRY(kind->begin(s));
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        const yaml_node_t *name = yaml_document_get_node(doc, p->key),
                          *value = yaml_document_get_node(doc, p->value);
        s->line = line_of(s->reader, name);
        if (!is_text(name)) wrong_shape(s, name, "a name");
        else if (!is_text(value)) wrong_shape(s, value, "plain text or a number");
        else LQ_TRY(kind->pair(s, text_of(name), text_of(value)));
    }
    s->line = line_of(s->reader, map);
    return kind->end ? kind->end(s) : LQ_OK;
}

static lq_status set_list(lq_slot *s, yaml_document_t *doc, const yaml_node_t *list) {
    const lq_kind *kind = s->key->kind;
    if (!kind->add) return wrong_shape(s, list, kind->wanted);
    for (const yaml_node_item_t *i = list->data.sequence.items.start;
         i < list->data.sequence.items.top; i++) {
        const yaml_node_t *item = yaml_document_get_node(doc, *i);
        s->line = line_of(s->reader, item);
        if (is_text(item)) LQ_TRY(kind->add(s, text_of(item)));
        else if (item->type == YAML_MAPPING_NODE && kind->begin) LQ_TRY(set_map(s, doc, item));
        else wrong_shape(s, item, kind->wanted);
    }
    return LQ_OK;
}

static lq_status set_value(lq_slot *s, yaml_document_t *doc, const yaml_node_t *value) {
    if (is_null(value)) return lq_slot_default(s);
    if (is_text(value)) return s->key->kind->from_text(s, text_of(value));
    if (value->type == YAML_SEQUENCE_NODE) return set_list(s, doc, value);
    if (value->type == YAML_MAPPING_NODE) return set_map(s, doc, value);
    return wrong_shape(s, value, s->key->kind->wanted);
}

static lq_status set_key(lq_reader *r, yaml_document_t *doc, int key, bool inverted,
                         const yaml_node_t *name, const yaml_node_t *value) {
    const int line = line_of(r, name);
    lq_slot s = lq_slot_open(r, key, inverted, line);
    const lq_status status = set_value(&s, doc, value);
    s.line = line;
    if (status == LQ_OK) lq_slot_close(&s);
    return status;
}

/* ---- mappings of keys ------------------------------------------------------------------------ */

static lq_status read_keys(lq_reader *r, yaml_document_t *doc, const yaml_node_t *map,
                           const char *section);

/* `qat: {...}`; `qat:` with nothing, or false, leaves the section out. */
static lq_status read_section(lq_reader *r, yaml_document_t *doc, int section,
                              const yaml_node_t *name, const yaml_node_t *value) {
    bool on = true;
    const int line = line_of(r, name);
    if (r->section_line[section] > 0)
        lq_mistake(r, line, "%s: given again; line %d has it already", lq_sections[section].name,
                   r->section_line[section]);
    if (value->type == YAML_MAPPING_NODE) {
        lq_section_give(r, section, true, line);
        return read_keys(r, doc, value, lq_sections[section].name);
    }
    if (!is_null(value) && (!is_text(value) || !lq_text_to_bool(text_of(value), &on) || on))
        lq_mistake(r, line, "%s: wanted its keys, indented below it", lq_sections[section].name);
    return LQ_OK;
}

static lq_status read_key(lq_reader *r, yaml_document_t *doc, const char *section,
                          const yaml_node_t *name, const yaml_node_t *value) {
    bool inverted;
    if (!is_text(name)) {
        lq_mistake(r, line_of(r, name), "found %s where a key should be", shape_of(name));
        return LQ_OK;
    }
    char *full = section ? lq_sprintf("%s.%s", section, text_of(name)) : lq_strdup(text_of(name));
    if (!full) return LQ_EMEM;
    lq_status status = LQ_OK;
    const int key = lq_key_find(full, &inverted), nested = section ? -1 : lq_section_find(full);
    if (key >= 0) status = set_key(r, doc, key, inverted, name, value);
    else if (nested >= 0) status = read_section(r, doc, nested, name, value);
    else lq_unknown_key(r, line_of(r, name), full);
    lq_free(full);
    return status;
}

static lq_status read_keys(lq_reader *r, yaml_document_t *doc, const yaml_node_t *map,
                           const char *section) {
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++)
        LQ_TRY(read_key(r, doc, section, yaml_document_get_node(doc, p->key),
                        yaml_document_get_node(doc, p->value)));
    return LQ_OK;
}

/* ---- documents ------------------------------------------------------------------------------- */

/* A text being parsed; `label` goes before what libyaml says about it. */
typedef struct source {
    const char *text;
    size_t n;
    const char *label;
    yaml_parser_t parser;
} source;

static lq_status source_open(source *s, const char *text, size_t n, const char *label) {
    *s = (source){.text = text, .n = n, .label = label};
    if (!yaml_parser_initialize(&s->parser))
        return lq_fail(LQ_EMEM, "out of memory for a YAML parser");
    yaml_parser_set_input_string(&s->parser, (const unsigned char *)text, n);
    return LQ_OK;
}

static int line_at(const source *s, size_t offset) {
    int line = 1;
    for (size_t i = 0; i < offset && i < s->n; i++) line += s->text[i] == '\n';
    return line;
}

static lq_status parse_problem(lq_reader *r, const source *s) {
    const yaml_parser_t *p = &s->parser;
    if (p->error == YAML_MEMORY_ERROR) return lq_fail(LQ_EMEM, "out of memory while reading YAML");
    const bool characters = p->error == YAML_READER_ERROR; /* then there is an offset and no mark */
    const int line = characters ? line_at(s, p->problem_offset) : (int)p->problem_mark.line + 1;
    lq_mistake(r, r->in_option ? LQ_LINE_OPTION : line, "%s%s%s%s", s->label,
               p->problem ? p->problem : "not YAML", p->context ? ", " : "",
               p->context ? p->context : "");
    return LQ_OK;
}

/* The next document; *root NULL if there is none, or if a mistake was reported. */
static lq_status next_document(lq_reader *r, source *s, yaml_document_t *doc,
                               const yaml_node_t **root) {
    *root = NULL;
    if (!yaml_parser_load(&s->parser, doc)) {
        memset(doc, 0, sizeof *doc);
        return parse_problem(r, s);
    }
    *root = yaml_document_get_root_node(doc);
    return LQ_OK;
}

static lq_status refuse_second(lq_reader *r, source *s) {
    yaml_document_t doc;
    const yaml_node_t *root;
    LQ_TRY(next_document(r, s, &doc, &root));
    if (root) lq_mistake(r, line_of(r, root), "a second document begins, wanted only one");
    yaml_document_delete(&doc);
    return LQ_OK;
}

lq_status lq_yaml_read(lq_reader *r, const char *text, size_t n) {
    source s;
    yaml_document_t doc;
    const yaml_node_t *root;
    LQ_TRY(source_open(&s, text, n, ""));
    lq_status status = next_document(r, &s, &doc, &root);
    if (status == LQ_OK && root) {
        if (root->type == YAML_MAPPING_NODE) status = read_keys(r, &doc, root, NULL);
        else if (!is_null(root))
            lq_mistake(r, line_of(r, root), "wanted keys and values, `key: value`");
        if (status == LQ_OK) status = refuse_second(r, &s);
    }
    yaml_document_delete(&doc);
    yaml_parser_delete(&s.parser);
    return status;
}

lq_status lq_yaml_read_value(lq_slot *slot, const char *text) {
    char label[LQ_NAME_BYTES];
    source s;
    yaml_document_t doc;
    const yaml_node_t *root;
    snprintf(label, sizeof label, "%s: ", slot->key->name);
    LQ_TRY(source_open(&s, text, strlen(text), label));
    lq_status status = next_document(slot->reader, &s, &doc, &root);
    if (status == LQ_OK && root) status = set_value(slot, &doc, root);
    yaml_document_delete(&doc);
    yaml_parser_delete(&s.parser);
    return status;
}
