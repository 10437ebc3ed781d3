-- What gateways of one fleet share: API keys, the requests in work, and those that ended.
--
-- Every change is one call of one function. Amounts are nano-USD; `numeric`, for they have 128 bits, and text
-- where they cross to the gateway. Times are milliseconds since 1970. Where a function takes `p_now` and
-- `p_steady`, null means the clock of the database: only tests say otherwise.
-- Locks are taken in this order: a row of `finished`, a row of `keys`, rows of `requests` and `gateways`.

CREATE TABLE peerwatt.keys (
  -- SHA-256; the key itself is known to its holder only.
  id bytea PRIMARY KEY,
  name text NOT NULL,
  prefix text NOT NULL,
  limits jsonb NOT NULL,
  used numeric NOT NULL DEFAULT 0,
  -- What was used in one day and one month, numbered.
  day bigint NOT NULL DEFAULT 0,
  used_day numeric NOT NULL DEFAULT 0,
  month bigint NOT NULL DEFAULT 0,
  used_month numeric NOT NULL DEFAULT 0,
  -- What providers were paid for its requests beyond what it was billed.
  lost numeric NOT NULL DEFAULT 0,
  -- Buckets of the rates: what was taken and has not flowed back, in parts of 1/60000.
  requests_taken bigint NOT NULL DEFAULT 0,
  requests_at bigint NOT NULL DEFAULT 0,
  tokens_taken bigint NOT NULL DEFAULT 0,
  tokens_at bigint NOT NULL DEFAULT 0,
  created_at bigint NOT NULL,
  revoked_at bigint
);
CREATE UNIQUE INDEX keys_name ON peerwatt.keys (name) WHERE revoked_at IS NULL;

-- What a gateway holds counts while its lease lasts.
CREATE TABLE peerwatt.gateways (
  id bytea PRIMARY KEY,
  lease_until bigint NOT NULL
);

-- Requests in work.
CREATE TABLE peerwatt.requests (
  id bytea PRIMARY KEY,
  key bytea NOT NULL,
  gateway bytea NOT NULL,
  reserved numeric NOT NULL,
  prompt_tokens bigint NOT NULL,
  began_at bigint NOT NULL
);
CREATE INDEX requests_key ON peerwatt.requests (key);
CREATE INDEX requests_gateway ON peerwatt.requests (gateway);

-- Requests of which at least one attempt is settled.
CREATE TABLE peerwatt.finished (
  id bytea PRIMARY KEY,
  -- Tells apart what ended in the same millisecond.
  place bigint GENERATED ALWAYS AS IDENTITY,
  key bytea NOT NULL,
  ended_at bigint NOT NULL,
  -- Whether the client was given something.
  answered boolean NOT NULL,
  -- Every attempt that was booked: none is booked twice.
  attempts integer[] NOT NULL,
  -- The attempts that made the answer, the first first; or the last one, if there was no answer.
  records bytea[] NOT NULL
);
CREATE INDEX finished_age ON peerwatt.finished (ended_at, place);
CREATE INDEX finished_key ON peerwatt.finished (key, ended_at, place);

CREATE FUNCTION peerwatt.clock_ms() RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;

CREATE FUNCTION peerwatt.day_of(p_ms bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT p_ms / 86400000
$$;

CREATE FUNCTION peerwatt.month_of(p_ms bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT (extract(year FROM at) * 12 + extract(month FROM at) - 1)::bigint
  FROM (SELECT to_timestamp(p_ms / 1000) AT TIME ZONE 'UTC' AS at) AS t
$$;

-- What was spent in `p_period`, if `p_amount` was in `p_of`. A clock that was set back stays in the later one.
CREATE FUNCTION peerwatt.in_period(p_amount numeric, p_of bigint, p_period bigint) RETURNS numeric
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN p_period > p_of THEN 0 ELSE p_amount END
$$;

-- What of a bucket has not flowed back.
CREATE FUNCTION peerwatt.taken(p_taken bigint, p_at bigint, p_now bigint, p_rate bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
  SELECT greatest(0, p_taken - least(p_rate::numeric * greatest(0, p_now - p_at), p_taken))::bigint
$$;

-- How long to wait until so much more fits.
CREATE FUNCTION peerwatt.wait_ms(p_taken bigint, p_rate bigint, p_held bigint, p_amount bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
  SELECT ceil(
    greatest(0, p_taken + (p_held + least(p_amount, p_rate)) * 60000 - p_rate * 60000)::numeric / p_rate
  )::bigint
$$;

-- Requests in work of a key, what they hold of its budgets and of its tokens.
CREATE FUNCTION peerwatt.held(p_key bytea, p_now bigint, OUT requests bigint, OUT reserved numeric, OUT tokens bigint)
LANGUAGE sql STABLE AS $$
  SELECT count(*), coalesce(sum(q.reserved), 0), coalesce(sum(q.prompt_tokens), 0)::bigint
  FROM peerwatt.requests q JOIN peerwatt.gateways g ON g.id = q.gateway
  WHERE q.key = p_key AND g.lease_until > p_now
$$;

-- The budget that has least left, and how much; null if there is none.
CREATE FUNCTION peerwatt.left_of(k peerwatt.keys, p_reserved numeric, p_now bigint, OUT budget text, OUT amount numeric)
LANGUAGE sql STABLE AS $$
  SELECT b.name, greatest(b.total - b.used - p_reserved, 0)
  FROM (VALUES
    (1, 'total', (k.limits->>'budget')::numeric, k.used),
    (2, 'day', (k.limits->>'budget_day')::numeric, peerwatt.in_period(k.used_day, k.day, peerwatt.day_of(p_now))),
    (3, 'month', (k.limits->>'budget_month')::numeric, peerwatt.in_period(k.used_month, k.month, peerwatt.month_of(p_now)))
  ) AS b (place, name, total, used)
  WHERE b.total IS NOT NULL
  ORDER BY 2, b.place LIMIT 1
$$;

-- Prolongs the lease of a gateway. Whoever's lease ran out at about the same time as this one's was cut off by
-- the same thing, most likely by the database itself: its requests still count.
CREATE FUNCTION peerwatt.renew(p_gateway bytea, p_lease_ms bigint, p_now bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint := coalesce(p_now, peerwatt.clock_ms());
  v_old bigint;
BEGIN
  SELECT lease_until INTO v_old FROM peerwatt.gateways WHERE id = p_gateway;
  IF v_old IS NULL THEN
    INSERT INTO peerwatt.gateways (id, lease_until) VALUES (p_gateway, v_now + p_lease_ms)
    ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until;
  ELSIF v_old > v_now THEN
    UPDATE peerwatt.gateways SET lease_until = greatest(lease_until, v_now + p_lease_ms) WHERE id = p_gateway;
  ELSE
    -- One gateway after the other: each would lock the rows of the others.
    PERFORM pg_advisory_xact_lock(7297624, 2);
    UPDATE peerwatt.gateways SET lease_until = v_now + p_lease_ms
    WHERE lease_until <= v_now AND lease_until >= v_old - p_lease_ms;
  END IF;
END
$$;

-- Lets a request in and reserves what it may cost: `p_most`, or what is left if that is `p_least` or more.
CREATE FUNCTION peerwatt.begin_request(
  p_gateway bytea, p_request bytea, p_key bytea, p_model_name text, p_model_id text, p_prompt_tokens bigint,
  p_least text, p_most text, p_lease_ms bigint, p_now bigint, p_steady bigint,
  OUT outcome text, OUT amount text, OUT budget text, OUT per_minute bigint, OUT wait_ms bigint,
  OUT name text, OUT used text, OUT lost text
) LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint;
  v_steady bigint;
  v_rate bigint;
  v_taken bigint;
  v_left numeric;
  k peerwatt.keys;
  h record;
BEGIN
  SELECT * INTO k FROM peerwatt.keys WHERE id = p_key AND revoked_at IS NULL FOR UPDATE;
  IF NOT FOUND THEN
    outcome := 'unknown';
    RETURN;
  END IF;
  -- After the lock, so that time does not go back for the key.
  v_now := coalesce(p_now, peerwatt.clock_ms());
  v_steady := coalesce(p_steady, v_now);
  name := k.name;
  used := k.used;
  lost := k.lost;
  IF (k.limits->>'expires_at')::numeric <= v_now THEN
    outcome := 'expired';
    RETURN;
  END IF;
  IF jsonb_array_length(k.limits->'models') > 0
    AND NOT k.limits->'models' ? p_model_name AND NOT k.limits->'models' ? p_model_id THEN
    outcome := 'model';
    RETURN;
  END IF;
  -- First, so that what this gateway has in work counts.
  IF NOT EXISTS (SELECT FROM peerwatt.gateways g WHERE g.id = p_gateway AND g.lease_until > v_now) THEN
    PERFORM peerwatt.renew(p_gateway, p_lease_ms, p_now);
  END IF;
  SELECT * INTO h FROM peerwatt.held(p_key, v_now);
  IF h.requests >= (k.limits->>'requests_at_once')::bigint THEN
    outcome := 'too_many';
    RETURN;
  END IF;
  v_rate := (k.limits->>'tokens_per_minute')::bigint;
  IF v_rate IS NOT NULL THEN
    v_taken := peerwatt.taken(k.tokens_taken, k.tokens_at, v_steady, v_rate);
    wait_ms := peerwatt.wait_ms(v_taken, v_rate, h.tokens, p_prompt_tokens);
    per_minute := v_rate;
    IF wait_ms > 0 THEN
      outcome := 'tokens';
      RETURN;
    END IF;
  END IF;
  v_rate := (k.limits->>'requests_per_minute')::bigint;
  IF v_rate IS NOT NULL THEN
    v_taken := peerwatt.taken(k.requests_taken, k.requests_at, v_steady, v_rate);
    wait_ms := peerwatt.wait_ms(v_taken, v_rate, 0, 1);
    per_minute := v_rate;
    IF wait_ms > 0 THEN
      outcome := 'requests';
      RETURN;
    END IF;
    UPDATE peerwatt.keys SET requests_taken = v_taken + 60000, requests_at = v_steady WHERE id = p_key;
  END IF;
  SELECT l.budget, l.amount INTO budget, v_left FROM peerwatt.left_of(k, h.reserved, v_now) AS l;
  IF v_left < p_least::numeric THEN
    outcome := 'short';
    amount := v_left;
    RETURN;
  END IF;
  outcome := 'granted';
  amount := least(v_left, p_most::numeric);
  INSERT INTO peerwatt.requests (id, key, gateway, reserved, prompt_tokens, began_at)
  VALUES (p_request, p_key, p_gateway, amount::numeric, p_prompt_tokens, v_now);
END
$$;

-- Reserves more for a request in work: up to `p_most`, if `p_least` is left. `amount` is what was added, or what is left.
CREATE FUNCTION peerwatt.more_for_request(
  p_gateway bytea, p_request bytea, p_key bytea, p_prompt_tokens bigint, p_least text, p_most text, p_now bigint,
  OUT outcome text, OUT amount text, OUT budget text
) LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint;
  v_left numeric;
  k peerwatt.keys;
  h record;
BEGIN
  SELECT * INTO k FROM peerwatt.keys WHERE id = p_key FOR UPDATE;
  IF NOT FOUND THEN
    outcome := 'unknown';
    RETURN;
  END IF;
  v_now := coalesce(p_now, peerwatt.clock_ms());
  SELECT * INTO h FROM peerwatt.held(p_key, v_now);
  SELECT l.budget, l.amount INTO budget, v_left FROM peerwatt.left_of(k, h.reserved, v_now) AS l;
  IF v_left < p_least::numeric THEN
    outcome := 'short';
    amount := v_left;
    RETURN;
  END IF;
  outcome := 'granted';
  amount := least(v_left, p_most::numeric);
  INSERT INTO peerwatt.requests AS q (id, key, gateway, reserved, prompt_tokens, began_at)
  VALUES (p_request, p_key, p_gateway, amount::numeric, p_prompt_tokens, v_now)
  ON CONFLICT (id) DO UPDATE SET reserved = q.reserved + excluded.reserved;
END
$$;

-- Books attempts, each once, and ends requests. The arrays have one entry for each attempt, in the order of their keys,
-- so that no two calls wait for each other; `p_ended` are requests that ended without being booked.
CREATE FUNCTION peerwatt.finish(
  p_requests bytea[], p_attempts integer[], p_keys bytea[], p_ended_at bigint[], p_answered boolean[],
  p_billed text[], p_lost text[], p_tokens bigint[], p_last boolean[], p_records bytea[],
  p_ended bytea[], p_now bigint, p_steady bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint;
  v_steady bigint;
  v_rate bigint;
  v_billed numeric;
  f peerwatt.finished;
  k peerwatt.keys;
BEGIN
  FOR i IN 1 .. cardinality(p_requests) LOOP
    INSERT INTO peerwatt.finished (id, key, ended_at, answered, attempts, records)
    VALUES (p_requests[i], p_keys[i], p_ended_at[i], false, '{}', '{}') ON CONFLICT (id) DO NOTHING;
    SELECT * INTO f FROM peerwatt.finished WHERE id = p_requests[i] FOR UPDATE;
    IF p_attempts[i] <> ALL (f.attempts) THEN
      UPDATE peerwatt.finished SET
        attempts = f.attempts || p_attempts[i],
        answered = f.answered OR p_answered[i],
        ended_at = CASE WHEN f.answered AND NOT p_answered[i] THEN f.ended_at ELSE p_ended_at[i] END,
        records = CASE
          WHEN NOT f.answered THEN ARRAY[p_records[i]]
          WHEN p_answered[i] THEN f.records || p_records[i]
          ELSE f.records
        END
      WHERE id = p_requests[i];
      SELECT * INTO k FROM peerwatt.keys WHERE id = p_keys[i] FOR UPDATE;
      IF FOUND THEN
        v_now := coalesce(p_now, peerwatt.clock_ms());
        v_steady := coalesce(p_steady, v_now);
        v_billed := p_billed[i]::numeric;
        v_rate := (k.limits->>'tokens_per_minute')::bigint;
        UPDATE peerwatt.keys SET
          used = k.used + v_billed,
          used_day = peerwatt.in_period(k.used_day, k.day, peerwatt.day_of(v_now)) + v_billed,
          day = greatest(k.day, peerwatt.day_of(v_now)),
          used_month = peerwatt.in_period(k.used_month, k.month, peerwatt.month_of(v_now)) + v_billed,
          month = greatest(k.month, peerwatt.month_of(v_now)),
          lost = k.lost + p_lost[i]::numeric,
          tokens_taken = CASE WHEN v_rate IS NULL OR p_tokens[i] = 0 THEN k.tokens_taken
            ELSE peerwatt.taken(k.tokens_taken, k.tokens_at, v_steady, v_rate) + p_tokens[i] * 60000 END,
          tokens_at = CASE WHEN v_rate IS NULL OR p_tokens[i] = 0 THEN k.tokens_at ELSE v_steady END
        WHERE id = p_keys[i];
        UPDATE peerwatt.requests SET reserved = greatest(0, reserved - v_billed) WHERE id = p_requests[i];
      END IF;
    END IF;
    IF p_last[i] THEN
      DELETE FROM peerwatt.requests WHERE id = p_requests[i];
    END IF;
  END LOOP;
  DELETE FROM peerwatt.requests WHERE id = ANY (p_ended);
END
$$;

-- A gateway starts: what its earlier run had in work is over.
CREATE FUNCTION peerwatt.start_gateway(p_gateway bytea, p_lease_ms bigint, p_now bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM peerwatt.requests WHERE gateway = p_gateway;
  PERFORM peerwatt.renew(p_gateway, p_lease_ms, p_now);
END
$$;

-- A gateway ends.
CREATE FUNCTION peerwatt.stop_gateway(p_gateway bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM peerwatt.requests WHERE gateway = p_gateway;
  DELETE FROM peerwatt.gateways WHERE id = p_gateway;
END
$$;

-- A gateway is alive, with these requests in work. What it has begun and does not know of is over: its client hung up while
-- the database was asked. So is what gateways held that have not been heard of for long.
CREATE FUNCTION peerwatt.beat(p_gateway bytea, p_in_work bytea[], p_lease_ms bigint, p_now bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint := coalesce(p_now, peerwatt.clock_ms());
BEGIN
  PERFORM peerwatt.renew(p_gateway, p_lease_ms, p_now);
  DELETE FROM peerwatt.requests
  WHERE gateway = p_gateway AND id <> ALL (p_in_work) AND began_at < v_now - p_lease_ms;
  DELETE FROM peerwatt.requests q USING peerwatt.gateways g
  WHERE g.id = q.gateway AND g.lease_until < v_now - 3600000;
  DELETE FROM peerwatt.gateways WHERE lease_until < v_now - 3600000;
END
$$;

-- Makes a key known.
CREATE FUNCTION peerwatt.put_key(
  p_id bytea, p_name text, p_prefix text, p_limits text, p_keys_max bigint, p_now bigint, OUT outcome text
) LANGUAGE plpgsql AS $$
DECLARE
  v_revoked bigint;
  v_known boolean;
BEGIN
  -- One after the other, so that the count holds.
  PERFORM pg_advisory_xact_lock(7297624, 1);
  SELECT revoked_at INTO v_revoked FROM peerwatt.keys WHERE id = p_id;
  v_known := FOUND;
  outcome := CASE
    WHEN v_revoked IS NOT NULL THEN 'revoked'
    WHEN EXISTS (SELECT FROM peerwatt.keys WHERE name = p_name AND revoked_at IS NULL) THEN 'name_taken'
    WHEN v_known THEN 'key_taken'
    WHEN (SELECT count(*) FROM peerwatt.keys WHERE revoked_at IS NULL) >= p_keys_max THEN 'too_many'
    ELSE 'made'
  END;
  IF outcome = 'made' THEN
    INSERT INTO peerwatt.keys (id, name, prefix, limits, created_at)
    VALUES (p_id, p_name, p_prefix, p_limits::jsonb, coalesce(p_now, peerwatt.clock_ms()));
  END IF;
END
$$;

-- Takes over a key from a gateway's own journal, with what it used, unless it is known.
CREATE FUNCTION peerwatt.take_over_key(
  p_id bytea, p_name text, p_other_name text, p_prefix text, p_limits text,
  p_used text, p_used_day text, p_used_month text, p_created_at bigint, p_now bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint := coalesce(p_now, peerwatt.clock_ms());
BEGIN
  PERFORM pg_advisory_xact_lock(7297624, 1);
  INSERT INTO peerwatt.keys (id, name, prefix, limits, used, day, used_day, month, used_month, created_at)
  VALUES (
    p_id,
    CASE WHEN EXISTS (SELECT FROM peerwatt.keys WHERE name = p_name AND revoked_at IS NULL)
      THEN p_other_name ELSE p_name END,
    p_prefix, p_limits::jsonb, p_used::numeric, peerwatt.day_of(v_now), p_used_day::numeric,
    peerwatt.month_of(v_now), p_used_month::numeric, p_created_at
  ) ON CONFLICT DO NOTHING;
END
$$;

-- Gives a key other limits, if they are still what `p_before` says.
CREATE FUNCTION peerwatt.limit_key(p_name text, p_before text, p_limits text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE peerwatt.keys SET
    -- What was taken at another rate would flow back at the new one.
    requests_taken = CASE WHEN limits = p_limits::jsonb THEN requests_taken ELSE 0 END,
    tokens_taken = CASE WHEN limits = p_limits::jsonb THEN tokens_taken ELSE 0 END,
    limits = p_limits::jsonb
  WHERE name = p_name AND revoked_at IS NULL AND limits = p_before::jsonb;
  RETURN FOUND;
END
$$;

-- Ends a key for good.
CREATE FUNCTION peerwatt.revoke_key(p_name text, p_now bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  UPDATE peerwatt.keys SET revoked_at = coalesce(p_now, peerwatt.clock_ms())
  WHERE name = p_name AND revoked_at IS NULL;
  RETURN FOUND;
END
$$;

-- Keys as people see them: one, or all by age.
CREATE FUNCTION peerwatt.key_views(p_id bytea, p_now bigint) RETURNS TABLE (
  id bytea, name text, prefix text, limits text, used text, used_day text, used_month text, reserved text,
  in_flight bigint, created_at bigint, revoked_at bigint, expired boolean
) LANGUAGE sql STABLE AS $$
  SELECT k.id, k.name, k.prefix, k.limits::text, k.used::text,
    peerwatt.in_period(k.used_day, k.day, peerwatt.day_of(t.now))::text,
    peerwatt.in_period(k.used_month, k.month, peerwatt.month_of(t.now))::text,
    h.reserved::text, h.requests, k.created_at, k.revoked_at,
    coalesce((k.limits->>'expires_at')::numeric <= t.now, false)
  FROM (SELECT coalesce(p_now, peerwatt.clock_ms()) AS now) AS t
  CROSS JOIN peerwatt.keys k
  CROSS JOIN LATERAL peerwatt.held(k.id, t.now) AS h
  WHERE p_id IS NULL OR k.id = p_id
  ORDER BY k.created_at, k.name
$$;

-- Requests that gave something, by the time of their end, after the one at (`p_after`, `p_after_place`).
CREATE FUNCTION peerwatt.usage(
  p_after bigint, p_after_place bigint, p_to bigint, p_keys bytea[], p_rows integer
) RETURNS TABLE (id bytea, ended_at bigint, place bigint, name text, records bytea[]) LANGUAGE sql STABLE AS $$
  SELECT f.id, f.ended_at, f.place, coalesce(k.name, ''), f.records
  FROM peerwatt.finished f LEFT JOIN peerwatt.keys k ON k.id = f.key
  WHERE f.answered AND (f.ended_at, f.place) > (p_after, p_after_place) AND f.ended_at < p_to
    AND (p_keys IS NULL OR f.key = ANY (p_keys))
  ORDER BY f.ended_at, f.place LIMIT p_rows
$$;

-- Forgets what ended before `p_before`, some of it at a time, and the oldest of more than 4096 revoked keys.
CREATE FUNCTION peerwatt.forget(p_retention_ms bigint, p_rows integer, p_now bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  v_before bigint := coalesce(p_now, peerwatt.clock_ms()) - p_retention_ms;
  v_count bigint;
BEGIN
  DELETE FROM peerwatt.finished WHERE id IN (
    SELECT f.id FROM peerwatt.finished f WHERE f.ended_at < v_before ORDER BY f.ended_at LIMIT p_rows
    FOR UPDATE SKIP LOCKED
  );
  GET DIAGNOSTICS v_count = ROW_COUNT;
  DELETE FROM peerwatt.keys WHERE id IN (
    SELECT k.id FROM peerwatt.keys k WHERE k.revoked_at IS NOT NULL ORDER BY k.revoked_at DESC OFFSET 4096
  );
  RETURN v_count;
END
$$;
