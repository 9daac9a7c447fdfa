-- How far answers have come under the current run: what everybody who tells P, watermark or freshness
-- tells.

SET LOCAL search_path = dovetail_internal;

-- An answer has every record below the greater of P and C. What a run knew of the log says something
-- of the answer only where nothing beyond C is in it. Of layer "batch" alone: the columns run_*.
CREATE VIEW progress AS
SELECT p.topic, p.partition, p.base_offset,
       COALESCE(c.next_offset, p.base_offset) AS cutoff,
       GREATEST(p.next_offset, c.next_offset) AS position,
       p.next_offset AS speed_position,
       GREATEST(p.watermark, c.watermark) AS watermark,
       CASE WHEN c.next_offset >= p.next_offset THEN GREATEST(p.as_of, c.as_of) ELSE p.as_of END
           AS as_of,
       c.watermark AS run_watermark,
       c.as_of AS run_as_of
FROM dovetail_internal.current_run AS r
CROSS JOIN dovetail_internal.position AS p
LEFT JOIN dovetail_internal.run_cutoff AS c
  ON c.run = r.run AND c.topic = p.topic AND c.partition = p.partition;

-- A topic is as fresh as its least fresh partition; NULL while nothing is known of one of them.
CREATE FUNCTION freshness_ms(of_topic text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN bool_and(as_of IS NOT NULL)
           THEN GREATEST(0, floor(extract(epoch FROM now() - min(as_of)) * 1000))::bigint END
    FROM dovetail_internal.progress WHERE topic = of_topic
$$;
