// Conversations in memory and in files. See chat_talk.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/chat_talk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/cli.h"

static bool add(json_t *messages, const char *role, const char *text, size_t len) {
    return json_array_append_new(messages, json_pack("{s:s, s:o}", "role", role, "content", json_stringn(text, len))) == 0;
}

static const char *role_of(const json_t *message) {
    const char *role = json_string_value(json_object_get(message, "role"));
    return role ? role : "";
}

static bool has_system(const chat_talk *talk) { return strcmp(role_of(json_array_get(talk->messages, 0)), "system") == 0; }

bool chat_talk_open(chat_talk *talk, const char *system) {
    talk->messages = json_array();
    return talk->messages && (!system || !*system || add(talk->messages, "system", system, strlen(system)));
}

void chat_talk_close(chat_talk *talk) {
    json_decref(talk->messages);
    talk->messages = NULL;
}

bool chat_talk_clear(chat_talk *talk) {
    while (json_array_size(talk->messages) > (has_system(talk) ? 1u : 0u)) json_array_remove(talk->messages, json_array_size(talk->messages) - 1);
    return true;
}

bool chat_talk_set_system(chat_talk *talk, const char *text) {
    if (has_system(talk)) json_array_remove(talk->messages, 0);
    if (!*text) return true;
    return json_array_insert_new(talk->messages, 0, json_pack("{s:s, s:s}", "role", "system", "content", text)) == 0;
}

const char *chat_talk_system(const chat_talk *talk) {
    return has_system(talk) ? json_string_value(json_object_get(json_array_get(talk->messages, 0), "content")) : "";
}

bool chat_talk_add(chat_talk *talk, const char *role, const char *text, size_t len) { return add(talk->messages, role, text, len); }

bool chat_talk_drop(chat_talk *talk, const char *role) {
    size_t n = json_array_size(talk->messages);
    if (n == 0 || strcmp(role_of(json_array_get(talk->messages, n - 1)), role) != 0) return false;
    return json_array_remove(talk->messages, n - 1) == 0;
}

size_t chat_talk_turns(const chat_talk *talk) {
    size_t i, n = 0;
    json_t *message;
    json_array_foreach(talk->messages, i, message) n += strcmp(role_of(message), "user") == 0;
    return n;
}

// ---- Files --------------------------------------------------------------------------------------------------------
static bool write_all(int fd, const char *text, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        text += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0;
}

bool chat_talk_save(const chat_talk *talk, const char *path, const char *model, char err[CHAT_TALK_ERR]) {
    json_t *object = json_pack("{s:i, s:s, s:O}", "wattle_chat", 1, "model", model, "messages", talk->messages);
    char *text = object ? json_dumps(object, JSON_INDENT(1)) : NULL, *beside = NULL;
    json_decref(object);
    bool good = text && asprintf(&beside, "%s.XXXXXX", path) >= 0;
    if (!good) {
        snprintf(err, CHAT_TALK_ERR, "out of memory for saving the conversation");
        free(text);
        return false;
    }
    int fd = mkostemp(beside, O_CLOEXEC); // readable by its owner only
    good = fd >= 0 && write_all(fd, text, strlen(text)) && rename(beside, path) == 0;
    if (!good) {
        snprintf(err, CHAT_TALK_ERR, "%s cannot be written: %s", path, strerror(errno));
        if (fd >= 0) unlink(beside);
    }
    if (fd >= 0) close(fd);
    free(text);
    free(beside);
    return good;
}

static bool messages_are_good(const json_t *messages, const char *path, char err[CHAT_TALK_ERR]) {
    size_t i;
    json_t *message;
    if (!json_is_array(messages)) return snprintf(err, CHAT_TALK_ERR, "%s: there is no list \"messages\" in it", path), false;
    json_array_foreach(messages, i, message) {
        const char *role = role_of(message);
        bool known = strcmp(role, "user") == 0 || strcmp(role, "assistant") == 0 || (i == 0 && strcmp(role, "system") == 0);
        if (!known || !json_is_string(json_object_get(message, "content")))
            return snprintf(err, CHAT_TALK_ERR, "%s: messages[%zu] needs a role (system only as the first, user, assistant) and a text as content", path, i), false;
    }
    return true;
}

bool chat_talk_load(chat_talk *talk, const char *path, char err[CHAT_TALK_ERR]) {
    json_error_t where;
    errno = 0;
    json_t *object = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    if (!object) {
        if (errno && where.line < 1) snprintf(err, CHAT_TALK_ERR, "%s cannot be read: %s", path, strerror(errno));
        else snprintf(err, CHAT_TALK_ERR, "%s, line %d: %s", path, where.line, where.text);
        return false;
    }
    json_t *messages = json_is_array(object) ? object : json_object_get(object, "messages");
    bool good = messages_are_good(messages, path, err);
    json_t *copy = good ? json_deep_copy(messages) : NULL;
    if (good && !copy) good = (snprintf(err, CHAT_TALK_ERR, "out of memory for the conversation in %s", path), false);
    if (good) {
        json_decref(talk->messages);
        talk->messages = copy;
    }
    json_decref(object);
    return good;
}
