// The parts of system libraries' interfaces that emq uses. The program loads the libraries at run time, so it builds and
// starts without them, and without their headers. This is a header only: there is no C code to compile.
#ifndef EMQ_CLIBRARIES_H
#define EMQ_CLIBRARIES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>
#include <time.h>

// zlib 1.x, https://zlib.net/manual.html. `inflateInit2_` checks that it knows this structure by its size.

typedef struct emq_zlib_stream {
    const uint8_t *next_in;
    unsigned int avail_in;
    unsigned long total_in;
    uint8_t *next_out;
    unsigned int avail_out;
    unsigned long total_out;
    const char *msg;
    void *state;
    void *(*zalloc)(void *, unsigned int, unsigned int);
    void (*zfree)(void *, void *);
    void *opaque;
    int data_type;
    unsigned long adler;
    unsigned long reserved;
} emq_zlib_stream;

typedef int (*emq_zlib_inflateInit2)(emq_zlib_stream *stream, int window_bits, const char *version, int stream_size);
typedef int (*emq_zlib_inflate)(emq_zlib_stream *stream, int flush);
typedef int (*emq_zlib_inflateReset)(emq_zlib_stream *stream);
typedef int (*emq_zlib_inflateEnd)(emq_zlib_stream *stream);

// OpenSSL 3 and 1.1.1, https://docs.openssl.org/3.0/man3/. All structures are opaque. The macro has a line for each
// function: what it returns, its name, and what it takes. A structure of pointers and the names to look up are made of it.

typedef struct emq_ssl_method emq_ssl_method;
typedef struct emq_ssl_ctx emq_ssl_ctx;
typedef struct emq_ssl emq_ssl;
typedef struct emq_ssl_session emq_ssl_session;
typedef struct emq_bio emq_bio;
typedef struct emq_bio_method emq_bio_method;
typedef struct emq_x509 emq_x509;
typedef struct emq_x509_name emq_x509_name;
typedef struct emq_x509_extension emq_x509_extension;
typedef struct emq_x509_store emq_x509_store;
typedef struct emq_x509_store_ctx emq_x509_store_ctx;
typedef struct emq_x509_verify_param emq_x509_verify_param;
typedef struct emq_x509_names emq_x509_names;
typedef struct emq_asn1_time emq_asn1_time;

typedef int (*emq_ssl_verify_callback)(int is_valid, emq_x509_store_ctx *context);
typedef int (*emq_ssl_password_callback)(char *buffer, int size, int is_written, void *data);
typedef int (*emq_ssl_session_callback)(emq_ssl *ssl, emq_ssl_session *session);
typedef int (*emq_ssl_alpn_callback)(
    emq_ssl *ssl, const unsigned char **chosen, unsigned char *chosen_length, const unsigned char *offered,
    unsigned int offered_length, void *data);
typedef int (*emq_bio_write_callback)(emq_bio *bio, const char *bytes, int length);
typedef int (*emq_bio_read_callback)(emq_bio *bio, char *bytes, int length);
typedef long (*emq_bio_ctrl_callback)(emq_bio *bio, int command, long number, void *pointer);

#define EMQ_SSL_FUNCTIONS(F) \
    F(const emq_ssl_method *, TLS_server_method, (void)) \
    F(const emq_ssl_method *, TLS_client_method, (void)) \
    F(emq_ssl_ctx *, SSL_CTX_new, (const emq_ssl_method *)) \
    F(void, SSL_CTX_free, (emq_ssl_ctx *)) \
    F(long, SSL_CTX_ctrl, (emq_ssl_ctx *, int command, long number, void *pointer)) \
    F(uint64_t, SSL_CTX_set_options, (emq_ssl_ctx *, uint64_t)) \
    F(int, SSL_CTX_set_cipher_list, (emq_ssl_ctx *, const char *)) \
    F(int, SSL_CTX_use_certificate_chain_file, (emq_ssl_ctx *, const char *path)) \
    F(int, SSL_CTX_use_PrivateKey_file, (emq_ssl_ctx *, const char *path, int type)) \
    F(int, SSL_CTX_check_private_key, (const emq_ssl_ctx *)) \
    F(void, SSL_CTX_set_default_passwd_cb, (emq_ssl_ctx *, emq_ssl_password_callback)) \
    F(emq_x509 *, SSL_CTX_get0_certificate, (const emq_ssl_ctx *)) \
    F(int, SSL_CTX_load_verify_locations, (emq_ssl_ctx *, const char *file, const char *directory)) \
    F(emq_x509_store *, SSL_CTX_get_cert_store, (const emq_ssl_ctx *)) \
    F(emq_x509_names *, SSL_load_client_CA_file, (const char *path)) \
    F(void, SSL_CTX_set_client_CA_list, (emq_ssl_ctx *, emq_x509_names *)) \
    F(void, SSL_CTX_set_verify, (emq_ssl_ctx *, int mode, emq_ssl_verify_callback)) \
    F(int, SSL_CTX_set_session_id_context, (emq_ssl_ctx *, const unsigned char *, unsigned int length)) \
    F(int, SSL_CTX_set_num_tickets, (emq_ssl_ctx *, size_t)) \
    F(void, SSL_CTX_sess_set_new_cb, (emq_ssl_ctx *, emq_ssl_session_callback)) \
    F(void, SSL_CTX_set_alpn_select_cb, (emq_ssl_ctx *, emq_ssl_alpn_callback, void *data)) \
    F(emq_ssl *, SSL_new, (emq_ssl_ctx *)) \
    F(int, SSL_set_alpn_protos, (emq_ssl *, const unsigned char *, unsigned int length)) \
    F(void, SSL_free, (emq_ssl *)) \
    F(void, SSL_set_bio, (emq_ssl *, emq_bio *input, emq_bio *output)) \
    F(emq_bio *, SSL_get_rbio, (const emq_ssl *)) \
    F(void, SSL_set_accept_state, (emq_ssl *)) \
    F(void, SSL_set_connect_state, (emq_ssl *)) \
    F(void, SSL_set_read_ahead, (emq_ssl *, int)) \
    F(long, SSL_ctrl, (emq_ssl *, int command, long number, void *pointer)) \
    F(int, SSL_do_handshake, (emq_ssl *)) \
    F(int, SSL_read, (emq_ssl *, void *bytes, int length)) \
    F(int, SSL_peek, (emq_ssl *, void *bytes, int length)) \
    F(int, SSL_has_pending, (const emq_ssl *)) \
    F(int, SSL_write, (emq_ssl *, const void *bytes, int length)) \
    F(int, SSL_shutdown, (emq_ssl *)) \
    F(void, SSL_set_shutdown, (emq_ssl *, int mode)) \
    F(int, SSL_get_error, (const emq_ssl *, int result)) \
    F(int, SSL_set1_host, (emq_ssl *, const char *)) \
    F(void, SSL_set_hostflags, (emq_ssl *, unsigned int)) \
    F(emq_x509_verify_param *, SSL_get0_param, (emq_ssl *)) \
    F(int, SSL_set_session, (emq_ssl *, emq_ssl_session *)) \
    F(void, SSL_SESSION_free, (emq_ssl_session *)) \
    F(int, SSL_get_ex_data_X509_STORE_CTX_idx, (void))

#define EMQ_CRYPTO_FUNCTIONS(F) \
    F(emq_bio_method *, BIO_meth_new, (int type, const char *name)) \
    F(int, BIO_meth_set_write, (emq_bio_method *, emq_bio_write_callback)) \
    F(int, BIO_meth_set_read, (emq_bio_method *, emq_bio_read_callback)) \
    F(int, BIO_meth_set_ctrl, (emq_bio_method *, emq_bio_ctrl_callback)) \
    F(emq_bio *, BIO_new, (const emq_bio_method *)) \
    F(emq_bio *, BIO_new_mem_buf, (const void *bytes, int length)) \
    F(const emq_bio_method *, BIO_s_mem, (void)) \
    F(int, BIO_free, (emq_bio *)) \
    F(int, BIO_read, (emq_bio *, void *bytes, int length)) \
    F(void, BIO_set_init, (emq_bio *, int)) \
    F(void, BIO_set_data, (emq_bio *, void *)) \
    F(void *, BIO_get_data, (emq_bio *)) \
    F(void, BIO_set_flags, (emq_bio *, int)) \
    F(void, BIO_clear_flags, (emq_bio *, int)) \
    F(void, ERR_clear_error, (void)) \
    F(unsigned long, ERR_peek_error, (void)) \
    F(const char *, ERR_reason_error_string, (unsigned long)) \
    F(emq_x509 *, PEM_read_bio_X509, (emq_bio *, emq_x509 **, emq_ssl_password_callback, void *data)) \
    F(void, X509_free, (emq_x509 *)) \
    F(emq_x509_name *, X509_get_subject_name, (const emq_x509 *)) \
    F(emq_x509_name *, X509_get_issuer_name, (const emq_x509 *)) \
    F(int, X509_NAME_print_ex, (emq_bio *, const emq_x509_name *, int indent, unsigned long flags)) \
    F(const emq_asn1_time *, X509_get0_notBefore, (const emq_x509 *)) \
    F(const emq_asn1_time *, X509_get0_notAfter, (const emq_x509 *)) \
    F(int, ASN1_TIME_to_tm, (const emq_asn1_time *, struct tm *)) \
    F(int, X509_get_ext_by_NID, (const emq_x509 *, int nid, int last_position)) \
    F(emq_x509_extension *, X509_get_ext, (const emq_x509 *, int position)) \
    F(int, X509V3_EXT_print, (emq_bio *, emq_x509_extension *, unsigned long flags, int indent)) \
    F(int, X509_STORE_add_cert, (emq_x509_store *, emq_x509 *)) \
    F(int, X509_STORE_set_flags, (emq_x509_store *, unsigned long flags)) \
    F(emq_x509 *, X509_STORE_CTX_get_current_cert, (const emq_x509_store_ctx *)) \
    F(int, X509_STORE_CTX_get_error, (const emq_x509_store_ctx *)) \
    F(int, X509_STORE_CTX_get_error_depth, (const emq_x509_store_ctx *)) \
    F(void *, X509_STORE_CTX_get_ex_data, (const emq_x509_store_ctx *, int index)) \
    F(const char *, X509_verify_cert_error_string, (long)) \
    F(int, X509_VERIFY_PARAM_set1_ip_asc, (emq_x509_verify_param *, const char *))

// librabbitmq, soname 4 (0.8 to 0.15), https://github.com/alanxz/rabbitmq-c. Structures that emq reads have the library's
// layout; the others are opaque.

typedef struct emq_amqp_connection emq_amqp_connection;
typedef struct emq_amqp_socket emq_amqp_socket;

typedef struct emq_amqp_bytes {
    size_t len;
    void *bytes;
} emq_amqp_bytes;

typedef struct emq_amqp_table {
    int num_entries;
    struct emq_amqp_table_entry *entries;
} emq_amqp_table;

typedef struct emq_amqp_array {
    int num_entries;
    struct emq_amqp_field *entries;
} emq_amqp_array;

typedef struct emq_amqp_decimal {
    uint8_t decimals;
    uint32_t value;
} emq_amqp_decimal;

typedef struct emq_amqp_field {
    uint8_t kind;
    union {
        int boolean;
        int8_t i8;
        uint8_t u8;
        int16_t i16;
        uint16_t u16;
        int32_t i32;
        uint32_t u32;
        int64_t i64;
        uint64_t u64;
        float f32;
        double f64;
        emq_amqp_decimal decimal;
        emq_amqp_bytes bytes;
        emq_amqp_table table;
        emq_amqp_array array;
    } value;
} emq_amqp_field;

typedef struct emq_amqp_table_entry {
    emq_amqp_bytes key;
    emq_amqp_field value;
} emq_amqp_table_entry;

typedef struct emq_amqp_method {
    uint32_t id;
    void *decoded;
} emq_amqp_method;

typedef struct emq_amqp_frame {
    uint8_t frame_type;
    uint16_t channel;
    union {
        emq_amqp_method method;
        struct {
            uint16_t class_id;
            uint64_t body_size;
            void *decoded;
            emq_amqp_bytes raw;
        } properties;
        emq_amqp_bytes body_fragment;
    } payload;
} emq_amqp_frame;

typedef struct emq_amqp_reply {
    int reply_type;
    emq_amqp_method reply;
    int library_error;
} emq_amqp_reply;

typedef struct emq_amqp_basic_properties {
    uint32_t flags;
    emq_amqp_bytes content_type;
    emq_amqp_bytes content_encoding;
    emq_amqp_table headers;
    uint8_t delivery_mode;
    uint8_t priority;
    emq_amqp_bytes correlation_id;
    emq_amqp_bytes reply_to;
    emq_amqp_bytes expiration;
    emq_amqp_bytes message_id;
    uint64_t timestamp;
    emq_amqp_bytes type;
    emq_amqp_bytes user_id;
    emq_amqp_bytes app_id;
    emq_amqp_bytes cluster_id;
} emq_amqp_basic_properties;

typedef struct emq_amqp_deliver {
    emq_amqp_bytes consumer_tag;
    uint64_t delivery_tag;
    int redelivered;
    emq_amqp_bytes exchange;
    emq_amqp_bytes routing_key;
} emq_amqp_deliver;

// channel.close and connection.close.
typedef struct emq_amqp_close {
    uint16_t reply_code;
    emq_amqp_bytes reply_text;
    uint16_t class_id;
    uint16_t method_id;
} emq_amqp_close;

typedef struct emq_amqp_declare {
    uint16_t ticket;
    emq_amqp_bytes queue;
    int passive;
    int durable;
    int exclusive;
    int auto_delete;
    int nowait;
    emq_amqp_table arguments;
} emq_amqp_declare;

typedef struct emq_amqp_declare_ok {
    emq_amqp_bytes queue;
    uint32_t message_count;
    uint32_t consumer_count;
} emq_amqp_declare_ok;

#define EMQ_AMQP_FUNCTIONS(F) \
    F(emq_amqp_connection *, amqp_new_connection, (void)) \
    F(int, amqp_destroy_connection, (emq_amqp_connection *)) \
    F(emq_amqp_socket *, amqp_tcp_socket_new, (emq_amqp_connection *)) \
    F(void, amqp_tcp_socket_set_sockfd, (emq_amqp_socket *, int descriptor)) \
    F(int, amqp_set_handshake_timeout, (emq_amqp_connection *, const struct timeval *)) \
    F(int, amqp_set_rpc_timeout, (emq_amqp_connection *, const struct timeval *)) \
    F(emq_amqp_reply, amqp_login_with_properties, \
        (emq_amqp_connection *, const char *virtual_host, int channel_max, int frame_max, int heartbeat, \
         const emq_amqp_table *client_properties, int sasl_method, ...)) \
    F(void *, amqp_channel_open, (emq_amqp_connection *, uint16_t channel)) \
    F(emq_amqp_declare_ok *, amqp_queue_declare, \
        (emq_amqp_connection *, uint16_t channel, emq_amqp_bytes queue, int is_passive, int is_durable, \
         int is_exclusive, int is_auto_delete, emq_amqp_table arguments)) \
    F(void *, amqp_basic_qos, \
        (emq_amqp_connection *, uint16_t channel, uint32_t prefetch_size, uint16_t prefetch_count, int is_global)) \
    F(void *, amqp_basic_consume, \
        (emq_amqp_connection *, uint16_t channel, emq_amqp_bytes queue, emq_amqp_bytes consumer_tag, int is_no_local, \
         int is_no_ack, int is_exclusive, emq_amqp_table arguments)) \
    F(int, amqp_basic_ack, (emq_amqp_connection *, uint16_t channel, uint64_t delivery_tag, int is_multiple)) \
    F(emq_amqp_reply, amqp_get_rpc_reply, (emq_amqp_connection *)) \
    F(int, amqp_simple_wait_frame_noblock, (emq_amqp_connection *, emq_amqp_frame *, const struct timeval *)) \
    F(int, amqp_send_frame, (emq_amqp_connection *, const emq_amqp_frame *)) \
    F(int, amqp_send_method, (emq_amqp_connection *, uint16_t channel, uint32_t id, void *decoded)) \
    F(void, amqp_maybe_release_buffers, (emq_amqp_connection *)) \
    F(const char *, amqp_error_string2, (int status))

#define EMQ_FIELD(RETURNED, NAME, TAKEN) RETURNED(*NAME) TAKEN;
typedef struct emq_ssl_functions {
    EMQ_SSL_FUNCTIONS(EMQ_FIELD)
} emq_ssl_functions;
typedef struct emq_crypto_functions {
    EMQ_CRYPTO_FUNCTIONS(EMQ_FIELD)
} emq_crypto_functions;
typedef struct emq_amqp_functions {
    EMQ_AMQP_FUNCTIONS(EMQ_FIELD)
} emq_amqp_functions;

// The names of the fields in their order, each followed by a zero.
#define EMQ_NAME(RETURNED, NAME, TAKEN) #NAME "\0"
static const char emq_ssl_names[] = EMQ_SSL_FUNCTIONS(EMQ_NAME);
static const char emq_crypto_names[] = EMQ_CRYPTO_FUNCTIONS(EMQ_NAME);
static const char emq_amqp_names[] = EMQ_AMQP_FUNCTIONS(EMQ_NAME);

// Swift cannot call functions with a variable number of arguments.
static inline emq_amqp_reply emq_amqp_login(
    const emq_amqp_functions *functions, emq_amqp_connection *connection, const char *virtual_host, int channel_max,
    int frame_max, int heartbeat, const emq_amqp_table *client_properties, const char *user, const char *password) {
    const int plain = 0;
    return functions->amqp_login_with_properties(
        connection, virtual_host, channel_max, frame_max, heartbeat, client_properties, plain, user, password);
}

#endif
