CREATE OR REPLACE TABLE `project`.`cdc`.`_strait_fold_by_hour`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 24 HOUR))
AS
WITH `read` AS (
SELECT `operation`, `position` AS `position`, `_strait_log`.`position` AS `log_position`, IF(`error` IS NULL, `data`, REGEXP_REPLACE(`data`, r'\\u[dD][89a-fA-F][0-9a-fA-F]{2}', r'\\uFFFD')) AS `data`, IF(`error` IS NULL, `before`, REGEXP_REPLACE(`before`, r'\\u[dD][89a-fA-F][0-9a-fA-F]{2}', r'\\uFFFD')) AS `before`, `error`, `kafka_topic`, `kafka_partition`, `kafka_offset`, `committed_at`, COALESCE(`emitted_at`, `ingested_at`) AS `sent`, `ingested_at`, TRUE AS `is_new`
FROM `project`.`cdc`.`log` AS `_strait_log`
WHERE TRUE AND `ingested_at` <= TIMESTAMP '2026-01-02 03:04:05.678901+00' AND TRUE
AND `source_schema` = 'shop' AND `source_table` = 'order'
AND `operation` IN ('load', 'insert', 'update', 'delete')
QUALIFY ROW_NUMBER() OVER (PARTITION BY `kafka_topic`, `kafka_partition`, `kafka_offset`, `_strait_log`.`position` ORDER BY `ingested_at`) = 1
),
`text` AS (
SELECT * EXCEPT (`before`), COALESCE(JSON_VALUE(`data`, '$."id"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."id"'), ''), 'null')) AS `v0`, IF(`before` IS NULL, COALESCE(JSON_VALUE(`data`, '$."BI_id"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."BI_id"'), ''), 'null')), COALESCE(JSON_VALUE(`before`, '$."id"'), NULLIF(CONCAT(JSON_QUERY(`before`, '$."id"'), ''), 'null'))) AS `b0`, COALESCE(JSON_VALUE(`data`, '$."day"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."day"'), ''), 'null')) AS `v1`, COALESCE(JSON_VALUE(`data`, '$."at"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."at"'), ''), 'null')) AS `v2`, COALESCE(JSON_VALUE(`data`, '$."shown"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."shown"'), ''), 'null')) AS `v3`, COALESCE(JSON_VALUE(`data`, '$."n"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."n"'), ''), 'null')) AS `v4`, IF(`is_new` AND `operation` <> 'delete', NULLIF((SELECT TO_JSON_STRING(ARRAY_AGG(`name` ORDER BY `name`)) FROM UNNEST(JSON_KEYS(SAFE.PARSE_JSON(`data`, wide_number_mode => 'round'), 1)) AS `name` WHERE `name` NOT IN ('"BI_id"', '"at"', '"day"', '"id"', '"n"', '"shown"', 'BI_id', 'at', 'day', 'id', 'n', 'shown')), 'null'), NULL) AS `unknown_members`
FROM `read`
),
`split` AS (
SELECT `text`.*, `is_old_key`, `is_old_key` OR `operation` = 'delete' AS `deleted`, IF(`is_old_key`, COALESCE(`b0`, `v0`), `v0`) AS `t0`
FROM `text`, UNNEST(IF(`operation` = 'update' AND (COALESCE(`b0` <> `v0`, FALSE)), [FALSE, TRUE], [FALSE])) AS `is_old_key`
),
`typed` AS (
SELECT *,
CASE WHEN REGEXP_CONTAINS(`t0`, r'^-?[0-9]+(\.0*)?$') THEN SAFE_CAST(REGEXP_EXTRACT(`t0`, r'^[^.]+') AS INT64) WHEN REGEXP_CONTAINS(`t0`, r'^-?[0-9](\.[0-9]{1,14})?[eE][+]?[0-9]{1,2}$') AND MOD(SAFE_CAST(`t0` AS NUMERIC), 1) = 0 AND ABS(SAFE_CAST(`t0` AS NUMERIC)) < 1000000000000000 THEN SAFE_CAST(SAFE_CAST(`t0` AS NUMERIC) AS INT64) WHEN `t0` IN ('true', 't') THEN 1 WHEN `t0` IN ('false', 'f') THEN 0 END AS `c0`,
IF(REGEXP_CONTAINS(`v1`, r'^([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}([T ]00:00:00(\.0+)?)?Z?$'), SAFE_CAST(SUBSTR(`v1`, 1, 10) AS DATE), NULL) AS `c1`,
IF(REGEXP_CONTAINS(`v2`, r'^([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6}0*)?(Z|[+-][0-9]{2}(:[0-9]{2})?)?$'), SAFE_CAST(REGEXP_REPLACE(`v2`, r'(\.[0-9]{6})0+', r'\1') AS TIMESTAMP), NULL) AS `c2`,
IF(REGEXP_CONTAINS(`v3`, r'^([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}([T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6}0*)?Z?|Z)?$'), SAFE_CAST(REGEXP_EXTRACT(`v3`, r'^[^.Z]+(?:\.[0-9]{1,6})?') AS DATETIME), NULL) AS `c3`,
CASE WHEN REGEXP_CONTAINS(`v4`, r'^-?[0-9]+(\.0*)?$') THEN SAFE_CAST(REGEXP_EXTRACT(`v4`, r'^[^.]+') AS INT64) WHEN REGEXP_CONTAINS(`v4`, r'^-?[0-9](\.[0-9]{1,14})?[eE][+]?[0-9]{1,2}$') AND MOD(SAFE_CAST(`v4` AS NUMERIC), 1) = 0 AND ABS(SAFE_CAST(`v4` AS NUMERIC)) < 1000000000000000 THEN SAFE_CAST(SAFE_CAST(`v4` AS NUMERIC) AS INT64) WHEN `v4` IN ('true', 't') THEN 1 WHEN `v4` IN ('false', 'f') THEN 0 END AS `c4`
FROM `split`
),
`checked` AS (
SELECT *, CASE WHEN `error` IS NOT NULL AND (`operation` <> 'delete' OR STARTS_WITH(`error`, 'the record has no schema')) THEN -1 WHEN `c0` IS NULL OR `is_old_key` AND (CASE WHEN REGEXP_CONTAINS(`v0`, r'^-?[0-9]+(\.0*)?$') THEN SAFE_CAST(REGEXP_EXTRACT(`v0`, r'^[^.]+') AS INT64) WHEN REGEXP_CONTAINS(`v0`, r'^-?[0-9](\.[0-9]{1,14})?[eE][+]?[0-9]{1,2}$') AND MOD(SAFE_CAST(`v0` AS NUMERIC), 1) = 0 AND ABS(SAFE_CAST(`v0` AS NUMERIC)) < 1000000000000000 THEN SAFE_CAST(SAFE_CAST(`v0` AS NUMERIC) AS INT64) WHEN `v0` IN ('true', 't') THEN 1 WHEN `v0` IN ('false', 'f') THEN 0 END) IS NULL THEN 0 WHEN `v1` IS NOT NULL AND `c1` IS NULL AND `operation` <> 'delete' THEN 1 WHEN `v2` IS NOT NULL AND `c2` IS NULL AND `operation` <> 'delete' THEN 2 WHEN `v3` IS NOT NULL AND `c3` IS NULL AND `operation` <> 'delete' THEN 3 WHEN `v4` IS NOT NULL AND `c4` IS NULL AND `operation` <> 'delete' THEN 4 END AS `flaw`
FROM `typed`
),
`sent_in_turn` AS (
SELECT *, MAX(`position`) OVER (PARTITION BY `flaw` IS NULL, `c0` ORDER BY UNIX_MICROS(`sent`) RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS `earlier_position`, MAX(`committed_at`) OVER (PARTITION BY `flaw` IS NULL, `c0` ORDER BY UNIX_MICROS(`sent`) RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS `earlier_committed`
FROM `checked`
),
`ranked` AS (
SELECT *,
COUNTIF(`is_new` AND NOT `is_old_key`) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_records`,
MAX(IF(`is_new`, `position`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_newest`,
MIN(IF(`is_new`, `position`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_lowest_new`,
MAX(IF(`is_new`, NULL, `position`)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_highest_old`,
MAX(`position`) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_position`,
MIN(`position`) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_lowest`,
MIN(IF(`operation` IN ('insert', 'load'), `position`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `key_added`,
MAX(IF(`is_new` AND NOT `is_old_key` AND `position` > '', `committed_at`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `raised_committed`,
MAX(IF(`is_new` AND NOT `is_old_key` AND `position` > '', `sent`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `raised_emitted`,
COUNTIF(`is_new` AND (`position` < `earlier_position` AND (REGEXP_CONTAINS(`position`, r'^[0-9]+-1-t') AND REGEXP_CONTAINS(`earlier_position`, r'^[0-9]+-2-') OR REGEXP_CONTAINS(`position`, r'^[0-9]+-2-m') AND UNIX_MICROS(`committed_at`) > UNIX_MICROS(`earlier_committed`) + 2000000 OR REGEXP_CONTAINS(`position`, r'^[0-9]+-2-p') AND UNIX_MICROS(`committed_at`) > UNIX_MICROS(`earlier_committed`) + 86400000000))) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `anew`,
MIN(IF(`is_new` AND (`position` < `earlier_position` AND (REGEXP_CONTAINS(`position`, r'^[0-9]+-1-t') AND REGEXP_CONTAINS(`earlier_position`, r'^[0-9]+-2-') OR REGEXP_CONTAINS(`position`, r'^[0-9]+-2-m') AND UNIX_MICROS(`committed_at`) > UNIX_MICROS(`earlier_committed`) + 2000000 OR REGEXP_CONTAINS(`position`, r'^[0-9]+-2-p') AND UNIX_MICROS(`committed_at`) > UNIX_MICROS(`earlier_committed`) + 86400000000)), `sent`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`) AS `anew_from`,
FALSE AS `key_beyond_log`,
FIRST_VALUE(`deleted`) OVER (PARTITION BY `flaw` IS NULL, `c0` ORDER BY `position` DESC, `deleted`, `kafka_offset` DESC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS `key_deleted`
FROM `sent_in_turn`
WHERE TRUE
QUALIFY IF(`flaw` IS NULL, `key_newest` IS NOT NULL AND ROW_NUMBER() OVER (PARTITION BY `flaw` IS NULL, `c0` ORDER BY `deleted`, `position` DESC, `kafka_offset` DESC) = 1, `is_new` AND NOT `is_old_key`)
)
SELECT `c0`, `c1`, `c2`, `c3`, `c4`,
IF(`flaw` IS NULL, `key_position`, `log_position`) AS `position`, `key_deleted` AS `deleted`, NOT `deleted` AS `has_image`,
`key_added` = `key_lowest` AND NOT `key_deleted` AS `adds`, IF(`flaw` IS NULL, `key_records`, 1) AS `records`, `key_newest` AS `newest`,
`flaw` IS NULL AND COALESCE(`key_highest_old` >= `key_lowest_new`, FALSE) AS `late`,
`raised_committed`, `raised_emitted`, `anew`, `anew_from`, `flaw` IS NULL AND `key_beyond_log` AND NOT `key_deleted` AS `beyond_log`,
CASE `flaw` WHEN 0 THEN 'id' WHEN 1 THEN 'day' WHEN 2 THEN 'at' WHEN 3 THEN 'shown' WHEN 4 THEN 'n' END AS `flaw_column`,
CASE WHEN `flaw` = -1 THEN `error` WHEN `flaw` = 0 AND `t0` IS NULL THEN 'the key column is missing or NULL' WHEN `flaw` = 0 THEN 'INT64 cannot hold the value exactly' WHEN `flaw` = 1 THEN 'DATE cannot hold the value exactly' WHEN `flaw` = 2 THEN 'TIMESTAMP cannot hold the value exactly' WHEN `flaw` = 3 THEN 'DATETIME cannot hold the value exactly' WHEN `flaw` = 4 THEN 'INT64 cannot hold the value exactly' END AS `flaw_reason`,
CONCAT('{', '"id":', COALESCE(TO_JSON_STRING(`t0`), 'null'), '}') AS `key_text`,
`kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`, `unknown_members` AS `unknown`, CAST(NULL AS STRING) AS `unknown_too`
FROM `ranked`
