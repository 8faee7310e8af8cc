SELECT `kafka_topic`, `kafka_partition`, MAX(`highest`)
FROM (
SELECT `kafka_topic`, `kafka_partition`, `kafka_offset` AS `highest` FROM `project`.`cdc`.`log` WHERE `ingested_at` < TIMESTAMP '2026-01-02 02:21:40.000000+00'
UNION ALL
SELECT `kafka_topic`, `kafka_partition`, `last_offset` FROM `project`.`cdc`.`log_kept_out` WHERE `ingested_at` < TIMESTAMP '2026-01-02 02:21:40.000000+00'
)
GROUP BY `kafka_topic`, `kafka_partition`
