/* tokenizer.model of SentencePiece: a protocol buffer, of which the pieces, the model's type and
 * the normalizer's space prefix are read. Its fields: sentencepiece_model.proto of
 * google/sentencepiece. */
#include "hf_vocab.h"

#include "tokenizer_parts.h"

#include <string.h>

enum { VARINT, FIXED64, BYTES, FIXED32 = 5 };                   /* wire types */
enum { PIECES = 1, TRAINER = 2, NORMALIZER = 3 };               /* of ModelProto */
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };       /* of SentencePiece */
enum { TRAINER_MODEL_TYPE = 3, MODEL_BPE = 2 };
enum { NORMALIZER_DUMMY_PREFIX = 3 };

typedef struct stream { const char *at, *end; } stream;

typedef struct field {
    uint64_t number, value;      /* value: of a varint or a fixed-size number */
    stream bytes;
} field;

static bool read_varint(stream *s, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64 && s->at < s->end; shift += 7) {
        const uint8_t byte = (uint8_t)*s->at++;
        *out |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return true;
    }
    return false;
}

static bool read_fixed(stream *s, size_t n, uint64_t *out) {
    if ((size_t)(s->end - s->at) < n) return false;
    *out = 0;
    memcpy(out, s->at, n);
    s->at += n;
    return true;
}

/* The next field; false where the message is cut off or malformed. */
static bool read_field(stream *s, field *f) {
    uint64_t tag, n;
    if (!read_varint(s, &tag)) return false;
    *f = (field){.number = tag >> 3};
    switch (tag & 7) {
    case VARINT: return read_varint(s, &f->value);
    case FIXED64: return read_fixed(s, 8, &f->value);
    case FIXED32: return read_fixed(s, 4, &f->value);
    case BYTES:
        if (!read_varint(s, &n) || n > (uint64_t)(s->end - s->at)) return false;
        f->bytes = (stream){s->at, s->at + n};
        s->at += n;
        return true;
    default: return false;
    }
}

static lq_status broken(const char *path, const char *what) {
    return lq_fail(LQ_EFORMAT, "%s: not a SentencePiece model: a broken %s", path, what);
}

/* llama.cpp's converter takes pieces marked user-defined for normal ones; so do we. */
static int type_of(uint64_t type) {
    return type == LQ_TOKEN_USER || type > LQ_TOKEN_BYTE || !type ? LQ_TOKEN_NORMAL : (int)type;
}

static lq_status read_piece(lq_hf_vocab *v, stream s, const char *path) {
    field f;
    stream text = {"", NULL};
    float score = 0;
    uint64_t type = LQ_TOKEN_NORMAL;
    text.end = text.at;
    while (s.at < s.end) {
        if (!read_field(&s, &f)) return broken(path, "piece");
        if (f.number == PIECE_TEXT && f.bytes.at) text = f.bytes;
        if (f.number == PIECE_SCORE) memcpy(&score, &f.value, sizeof score);
        if (f.number == PIECE_TYPE) type = f.value;
    }
    return lq_hf_vocab_set(v, v->n, text.at, (size_t)(text.end - text.at), score, type_of(type));
}

/* The last value of a number in a message, or what it is when it is left out. */
static lq_status read_number(uint64_t *out, stream s, uint64_t number, const char *path) {
    field f;
    while (s.at < s.end) {
        if (!read_field(&s, &f)) return broken(path, "description");
        if (f.number == number) *out = f.value;
    }
    return LQ_OK;
}

lq_status lq_hf_read_sentencepiece(lq_hf_vocab *v, const char *path, const char *bytes, size_t n) {
    stream s = {bytes, bytes + n};
    field f;
    uint64_t model = 1, prefix = 1;
    v->spm = true;
    while (s.at < s.end) {
        if (!read_field(&s, &f)) return broken(path, "field");
        if (f.number == PIECES) LQ_TRY(read_piece(v, f.bytes, path));
        if (f.number == TRAINER) LQ_TRY(read_number(&model, f.bytes, TRAINER_MODEL_TYPE, path));
        if (f.number == NORMALIZER)
            LQ_TRY(read_number(&prefix, f.bytes, NORMALIZER_DUMMY_PREFIX, path));
    }
    if (!v->n) return broken(path, "file: it has no pieces");
    if (model != MODEL_BPE)
        return lq_fail(LQ_EUNSUPPORTED,
                       "%s: a SentencePiece model of type %d (1 is Unigram), only BPE (2) is "
                       "supported", path, (int)model);
    if (!prefix) v->space_prefix = 0;
    return LQ_OK;
}
