"""The view `suffice_books`, a line for each request, as the migrations create it."""

BOOKS = """CREATE VIEW suffice_books AS
                SELECT r.id, r.request_id, r.time_us / 1e6 AS time_s, r.status, r.rung,
                    r.reference_rung, r.vector, r.group_name, r.conversation_id, r.key_id,
                    r.audited, u.calls, u.input_tokens, u.output_tokens, u.reasoning_tokens,
                    u.cache_read_tokens, u.cache_write_tokens,
                    r.charge_picousd / 1e12 AS charge_usd, r.charge_estimated,
                    r.reference_picousd / 1e12 AS reference_usd, r.reference_known,
                    r.certificate_id
                FROM suffice_requests r LEFT JOIN (
                    SELECT request_id, COUNT(*) AS calls,
                        CASE WHEN COUNT(*) = COUNT(input_tokens)
                            THEN SUM(input_tokens) END AS input_tokens,
                        CASE WHEN COUNT(*) = COUNT(output_tokens)
                            THEN SUM(output_tokens) END AS output_tokens,
                        CASE WHEN COUNT(*) = COUNT(reasoning_tokens)
                            THEN SUM(reasoning_tokens) END AS reasoning_tokens,
                        CASE WHEN COUNT(*) = COUNT(cache_read_tokens)
                            THEN SUM(cache_read_tokens) END AS cache_read_tokens,
                        CASE WHEN COUNT(*) = COUNT(cache_write_tokens)
                            THEN SUM(cache_write_tokens) END AS cache_write_tokens
                    FROM suffice_attempts WHERE {on_path} GROUP BY request_id
                ) u ON u.request_id = r.request_id"""
