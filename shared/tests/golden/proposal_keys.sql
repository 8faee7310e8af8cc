WITH `once` AS (
SELECT * FROM (SELECT `operation`, `position`, `data`, `before`, `committed_at`, `kafka_offset`, COALESCE(`emitted_at`, `ingested_at`) AS `sent` FROM `project`.`cdc`.`log` AS `_strait_log`
WHERE `source_schema` = 'shop' AND `source_table` = 'order' AND `operation` IN ('load', 'insert', 'update', 'delete') AND COALESCE(`error`, 'the record has no schema; its values are taken for what they say (STRAIT_DEBEZIUM_WITHOUT_SCHEMA)') = 'the record has no schema; its values are taken for what they say (STRAIT_DEBEZIUM_WITHOUT_SCHEMA)'
QUALIFY ROW_NUMBER() OVER (PARTITION BY `kafka_topic`, `kafka_partition`, `_strait_log`.`kafka_offset`, `_strait_log`.`position` ORDER BY `ingested_at`) = 1) WHERE TRUE
QUALIFY `operation` = 'load' OR ROW_NUMBER() OVER (PARTITION BY `operation`, `position` ORDER BY `sent`, `kafka_offset`) = 1
),
`texts` AS (
SELECT `operation`, `sent`, `committed_at`, `kafka_offset`, FARM_FINGERPRINT(`data`) AS `image`, IF(`sent` >= TIMESTAMP '2026-01-02 02:30:00.000000+00', 1, 0) + IF(`sent` >= TIMESTAMP '2026-01-02 02:46:40.000000+00', 1, 0) AS `load`, STARTS_WITH(`position`, '0000-2-') AND STRPOS(`position`, '~') = 0 AS `has_own_position`, COALESCE(JSON_VALUE(`data`, '$."id"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."id"'), ''), 'null')) AS `v0`, IF(`before` IS NULL, COALESCE(JSON_VALUE(`data`, '$."BI_id"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."BI_id"'), ''), 'null')), COALESCE(JSON_VALUE(`before`, '$."id"'), NULLIF(CONCAT(JSON_QUERY(`before`, '$."id"'), ''), 'null'))) AS `b0`, COALESCE(JSON_VALUE(`data`, '$."a.b"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."a.b"'), ''), 'null')) AS `v1`, IF(`before` IS NULL, COALESCE(JSON_VALUE(`data`, '$."BI_a.b"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."BI_a.b"'), ''), 'null')), COALESCE(JSON_VALUE(`before`, '$."a.b"'), NULLIF(CONCAT(JSON_QUERY(`before`, '$."a.b"'), ''), 'null'))) AS `b1`, COALESCE(JSON_VALUE(`data`, '$."it\'s"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."it\'s"'), ''), 'null')) AS `v3`, IF(`before` IS NULL, COALESCE(JSON_VALUE(`data`, '$."BI_it\'s"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."BI_it\'s"'), ''), 'null')), COALESCE(JSON_VALUE(`before`, '$."it\'s"'), NULLIF(CONCAT(JSON_QUERY(`before`, '$."it\'s"'), ''), 'null'))) AS `b3`
FROM `once`
),
`keys` AS (
SELECT `tuple`.`place` AS `candidate`, IF(`is_old`, `tuple`.`old`, `tuple`.`new`) AS `key`, IF(`is_old`, 'delete', `operation`) AS `operation`, `is_old`, `sent`, `committed_at`, `kafka_offset`, `image`, `load`, `has_own_position`
FROM (SELECT *, [STRUCT(0 AS `place`, `v0` AS `new`, COALESCE(`b0`, `v0`) AS `old`), STRUCT(1 AS `place`, CONCAT(CAST(CHAR_LENGTH(`v1`) AS STRING), ':', `v1`, CAST(CHAR_LENGTH(`v3`) AS STRING), ':', `v3`) AS `new`, CONCAT(CAST(CHAR_LENGTH(COALESCE(`b1`, `v1`)) AS STRING), ':', COALESCE(`b1`, `v1`), CAST(CHAR_LENGTH(COALESCE(`b3`, `v3`)) AS STRING), ':', COALESCE(`b3`, `v3`)) AS `old`)] AS `tuples` FROM `texts`), UNNEST(`tuples`) AS `tuple`, UNNEST(IF(`operation` = 'update' AND COALESCE(`tuple`.`old` <> `tuple`.`new`, FALSE), [FALSE, TRUE], [FALSE])) AS `is_old`
),
`ordered` AS (
SELECT *, LAG(`operation`) OVER (PARTITION BY `candidate`, `key` ORDER BY `sent`, `kafka_offset`, `is_old`) AS `previous`, LAG(`image`) OVER (PARTITION BY `candidate`, `key` ORDER BY `sent`, `kafka_offset`, `is_old`) AS `previous_image`, LAG(`load`) OVER (PARTITION BY `candidate`, `key` ORDER BY `sent`, `kafka_offset`, `is_old`) AS `previous_load`, LAG(`sent`) OVER (PARTITION BY `candidate`, `key` ORDER BY `sent`, `kafka_offset`, `is_old`) AS `previous_sent`
FROM `keys`
WHERE `key` IS NOT NULL
)
SELECT `candidate`, COUNT(DISTINCT IF(`operation` IN ('load', 'insert'), `key`, NULL)) AS `distinct_keys`, COUNTIF(CASE WHEN `operation` = 'insert' AND `has_own_position` AND `previous` IN ('insert', 'update') THEN TRUE WHEN `previous_image` = `image` THEN FALSE WHEN `operation` = 'load' THEN `previous` = 'load' AND `previous_load` = `load` WHEN `operation` = 'insert' THEN `previous` IN ('insert', 'update') OR `previous` = 'load' AND `committed_at` > `previous_sent` ELSE FALSE END) AS `shared`, COUNTIF(`operation` IN ('load', 'insert') AND `previous` = `operation` AND `previous_image` = `image` AND `previous_load` = `load`) AS `repeated`, COUNTIF(`operation` IN ('update', 'delete') AND NOT `is_old` AND `previous` IS NULL) AS `unknown`
FROM `ordered`
GROUP BY `candidate`
