-- Searching, and creating and renaming a doctor, take as long among millions as among a few. No table is rewritten; the
-- policies at the end lock doctor_words for a moment.

-- The first `wanted` of the caller's patients after the id `after` that have all `words`, each matched from its start.
--
-- Candidates have the rarest of the words, of which up to a thousand hits are counted; the others are looked up for
-- each, or, when candidates are many, all hits of the others are read. The hits of one whole word lie in the order of
-- ids, those of the many words with one beginning do not: where these are many, they soon come up among the next
-- patients, and only if they do not, all are put in order. Generic plans, since planning anew takes longer than
-- searching; each OFFSET 0 keeps a condition from drawing in the index of the other order.
CREATE FUNCTION search_patients(words text[], after bigint, wanted integer) RETURNS bigint[] LANGUAGE plpgsql STABLE
    SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    many       CONSTANT integer := 1000;
    rarest     text;
    beyond     text;  -- all words that begin with the rarest
    others     text[];
    other      text;
    is_spread  boolean;
    looked_at  integer := 0;
    size       integer;
    depth      integer := 5 * wanted;
    candidates bigint[];
    number     integer;
    last       bigint;
    found      bigint[] := '{}';
BEGIN
    SELECT given, given || chr(1114111), array_remove(words, given) INTO rarest, beyond, others
      FROM unnest(words) AS given
     ORDER BY (SELECT count(*)
                 FROM (SELECT
                         FROM patient_words
                        WHERE word >= given AND word < given || chr(1114111)
                        LIMIT many) AS hit)
     LIMIT 1;
    SELECT count(*) = many INTO is_spread
      FROM (SELECT
              FROM patient_words
             WHERE word > rarest AND word < beyond
             LIMIT many) AS hit;
    LOOP
        IF is_spread AND looked_at < 3 * many THEN
            size := many / 2;  -- more than the words of one name
            SELECT array_agg(DISTINCT patient_id ORDER BY patient_id) FILTER (WHERE word >= rarest AND word < beyond),
                   count(*), max(patient_id)
              INTO candidates, number, last
              FROM (SELECT patient_id, word
                      FROM patient_words
                     WHERE patient_id > after
                     ORDER BY patient_id
                     LIMIT size) AS next;
            looked_at := looked_at + size;
            IF number = size THEN  -- perhaps without some words of the last one, who is left for the next turn
                candidates := array_remove(candidates, last);
                last := last - 1;
            END IF;
        ELSE
            size := depth;
            depth := 4 * depth;
            SELECT array_agg(DISTINCT patient_id ORDER BY patient_id), count(*), max(patient_id)
              INTO candidates, number, last
              FROM ((SELECT patient_id
                       FROM patient_words
                      WHERE word = rarest AND patient_id > after
                      ORDER BY patient_id
                      LIMIT size)
                     UNION ALL
                    (SELECT patient_id
                       FROM (SELECT patient_id
                               FROM patient_words
                              WHERE word > rarest AND word < beyond
                             OFFSET 0) AS longer
                      WHERE patient_id > after
                      ORDER BY patient_id
                      LIMIT size)
                     ORDER BY patient_id
                     LIMIT size) AS next;
        END IF;
        IF cardinality(candidates) >= 2 * many THEN
            FOREACH other IN ARRAY others LOOP
                candidates := ARRAY(
                    SELECT unnest(candidates)
                    INTERSECT
                    SELECT patient_id
                      FROM (SELECT patient_id
                              FROM patient_words
                             WHERE word >= other AND word < other || chr(1114111)
                            OFFSET 0) AS hit
                     WHERE patient_id > after AND patient_id <= last
                     ORDER BY 1);
            END LOOP;
            depth := 16 * depth;  -- each turn reads all hits of the others
        ELSE
            candidates := ARRAY(
                SELECT candidate
                  FROM unnest(candidates) WITH ORDINALITY AS listed (candidate, place)
                 WHERE NOT EXISTS (
                       SELECT
                         FROM unnest(others) AS lacking
                        WHERE NOT EXISTS (
                              SELECT
                                FROM (SELECT word FROM patient_words WHERE patient_id = candidate OFFSET 0) AS own
                               WHERE word >= lacking AND word < lacking || chr(1114111)))
                 ORDER BY place
                 LIMIT wanted - cardinality(found));
        END IF;
        found := found || candidates[:wanted - cardinality(found)];
        EXIT WHEN cardinality(found) = wanted OR number < size;
        after := last;
    END LOOP;
    RETURN found;
END
$$;

-- The same of everybody's doctors. The specialty, given as its key or as NULL, is one condition more: where it is rarer
-- than every word, candidates are its doctors, and they lie in the order of ids. (BETWEEN the key and itself: of a range
-- the planner expects few rows, while what it knows of specialties can make it read all doctors for a rare one.)
CREATE FUNCTION search_doctors(words text[], key text, after bigint, wanted integer) RETURNS bigint[] LANGUAGE plpgsql STABLE
    SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    many       CONSTANT integer := 1000;
    rarest     text;
    beyond     text;  -- all words that begin with the rarest
    others     text[];
    other      text;
    by_key     boolean := false;
    is_spread  boolean;
    looked_at  integer := 0;
    size       integer;
    depth      integer := 5 * wanted;
    candidates bigint[];
    number     integer;
    last       bigint;
    found      bigint[] := '{}';
BEGIN
    SELECT given, given || chr(1114111), array_remove(words, given), hits INTO rarest, beyond, others, number
      FROM unnest(words) AS given
     CROSS JOIN LATERAL (
           SELECT count(*) AS hits
             FROM (SELECT
                     FROM doctor_words
                    WHERE word >= given AND word < given || chr(1114111)
                    LIMIT many) AS hit) AS counted
     ORDER BY hits
     LIMIT 1;
    IF key IS NOT NULL THEN
        SELECT count(*) <= number INTO by_key
          FROM (SELECT
                  FROM doctors
                 WHERE specialty_key BETWEEN key AND key
                 LIMIT many) AS hit;
    END IF;
    SELECT count(*) = many INTO is_spread
      FROM (SELECT
              FROM doctor_words
             WHERE word > rarest AND word < beyond
             LIMIT many) AS hit;
    LOOP
        IF by_key THEN
            size := depth;
            depth := 4 * depth;
            others := words;
            SELECT array_agg(id ORDER BY id), count(*), max(id)
              INTO candidates, number, last
              FROM (SELECT id
                      FROM doctors
                     WHERE specialty_key BETWEEN key AND key AND id > after
                     ORDER BY specialty_key, id
                     LIMIT size) AS next;
        ELSIF is_spread AND looked_at < 3 * many THEN
            size := many / 2;  -- more than the words of one name
            SELECT array_agg(DISTINCT doctor_id ORDER BY doctor_id) FILTER (WHERE word >= rarest AND word < beyond),
                   count(*), max(doctor_id)
              INTO candidates, number, last
              FROM (SELECT doctor_id, word
                      FROM doctor_words
                     WHERE doctor_id > after
                     ORDER BY doctor_id
                     LIMIT size) AS next;
            looked_at := looked_at + size;
            IF number = size THEN  -- perhaps without some words of the last one, who is left for the next turn
                candidates := array_remove(candidates, last);
                last := last - 1;
            END IF;
        ELSE
            size := depth;
            depth := 4 * depth;
            SELECT array_agg(DISTINCT doctor_id ORDER BY doctor_id), count(*), max(doctor_id)
              INTO candidates, number, last
              FROM ((SELECT doctor_id
                       FROM doctor_words
                      WHERE word = rarest AND doctor_id > after
                      ORDER BY doctor_id
                      LIMIT size)
                     UNION ALL
                    (SELECT doctor_id
                       FROM (SELECT doctor_id
                               FROM doctor_words
                              WHERE word > rarest AND word < beyond
                             OFFSET 0) AS longer
                      WHERE doctor_id > after
                      ORDER BY doctor_id
                      LIMIT size)
                     ORDER BY doctor_id
                     LIMIT size) AS next;
        END IF;
        IF cardinality(candidates) >= 2 * many THEN
            IF key IS NOT NULL AND NOT by_key THEN
                candidates := ARRAY(
                    SELECT unnest(candidates)
                    INTERSECT
                    SELECT id
                      FROM doctors
                     WHERE specialty_key BETWEEN key AND key AND id > after AND id <= last
                     ORDER BY 1);
            END IF;
            FOREACH other IN ARRAY others LOOP
                candidates := ARRAY(
                    SELECT unnest(candidates)
                    INTERSECT
                    SELECT doctor_id
                      FROM (SELECT doctor_id
                              FROM doctor_words
                             WHERE word >= other AND word < other || chr(1114111)
                            OFFSET 0) AS hit
                     WHERE doctor_id > after AND doctor_id <= last
                     ORDER BY 1);
            END LOOP;
            depth := 16 * depth;  -- each turn reads all hits of the others
        ELSE
            candidates := ARRAY(
                SELECT candidate
                  FROM unnest(candidates) WITH ORDINALITY AS listed (candidate, place)
                 WHERE (key IS NULL OR by_key OR key = (SELECT specialty_key FROM doctors WHERE id = candidate))
                   AND NOT EXISTS (
                       SELECT
                         FROM unnest(others) AS lacking
                        WHERE NOT EXISTS (
                              SELECT
                                FROM (SELECT word FROM doctor_words WHERE doctor_id = candidate OFFSET 0) AS own
                               WHERE word >= lacking AND word < lacking || chr(1114111)))
                 ORDER BY place
                 LIMIT wanted - cardinality(found));
        END IF;
        found := found || candidates[:wanted - cardinality(found)];
        EXIT WHEN cardinality(found) = wanted OR number < size;
        after := last;
    END LOOP;
    RETURN found;
END
$$;

GRANT EXECUTE ON FUNCTION search_patients, search_doctors TO healthcare_api;


-- IN a list of doctors read all of them for each doctor that was created or renamed; one is looked up instead.
ALTER POLICY creator_or_admin_inserts ON doctor_words
    WITH CHECK ((SELECT created_by FROM doctors WHERE id = doctor_id) = (SELECT app_user_id())
                OR (SELECT app_role()) = 'admin');
ALTER POLICY creator_or_admin_deletes ON doctor_words
    USING ((SELECT created_by FROM doctors WHERE id = doctor_id) = (SELECT app_user_id())
           OR (SELECT app_role()) = 'admin');

-- A page is read in the order of its index. Where the average owner has few rows, the planner finds it cheaper to fetch
-- all of an owner's through a bitmap and to sort them, and does so for the owner of a million, too. For new connections.
ALTER ROLE healthcare_api SET enable_bitmapscan = off;

-- A search reads the index alone only where vacuum has been, which by default waits for a fifth of new rows.
ALTER TABLE patient_words SET (autovacuum_vacuum_insert_scale_factor = 0.02);
ALTER TABLE doctor_words SET (autovacuum_vacuum_insert_scale_factor = 0.02);
