CREATE TABLE studies (study_id INTEGER PRIMARY KEY, study_name VARCHAR(512));
CREATE TABLE study_directions (study_direction_id INTEGER PRIMARY KEY, direction VARCHAR(8), study_id INTEGER, objective INTEGER);
CREATE TABLE trials (trial_id INTEGER PRIMARY KEY, number INTEGER, study_id INTEGER, state VARCHAR(8), datetime_start DATETIME, datetime_complete DATETIME);
CREATE TABLE trial_params (param_id INTEGER PRIMARY KEY, trial_id INTEGER, param_name VARCHAR(512), param_value FLOAT, distribution_json TEXT);
CREATE TABLE trial_values (trial_value_id INTEGER PRIMARY KEY, trial_id INTEGER, objective INTEGER, value FLOAT, value_type VARCHAR(7));
INSERT INTO studies VALUES (1, 'bowl'), (2, 'two goals');
INSERT INTO study_directions VALUES (1, 'MINIMIZE', 1, 0), (2, 'MINIMIZE', 2, 0), (3, 'MAXIMIZE', 2, 1);
INSERT INTO trials VALUES
  (1, 0, 1, 'COMPLETE', '2026-11-20 10:00:00.5', '2026-11-20 10:00:30.5'),
  (2, 1, 1, 'PRUNED', '2026-11-20 10:01:00.5', '2026-11-20 10:01:10.5'),
  (3, 2, 1, 'FAIL', '2026-11-20 10:02:00.5', '2026-11-20 10:02:01.5'),
  (4, 3, 1, 'RUNNING', '2026-11-20 10:03:00.5', NULL),
  (5, 4, 1, 'COMPLETE', '2026-11-20 10:04:00.5', '2026-11-20 10:04:30.5'),
  (6, 5, 1, 'COMPLETE', '2026-11-20 10:05:00.5', '2026-11-20 10:05:30.5'),
  (7, 0, 2, 'COMPLETE', '2026-11-20 10:06:00.5', '2026-11-20 10:06:30.5');
INSERT INTO trial_values VALUES (1, 1, 0, 0.7, 'FINITE'), (2, 2, 0, 1.9, 'FINITE'), (3, 5, 0, 0.6, 'FINITE'),
  (4, 6, 0, 0.5, 'FINITE'), (5, 7, 0, 0.5, 'FINITE'), (6, 7, 1, 0.5, 'FINITE');
INSERT INTO trial_params VALUES
  (1, 1, 'x', 2.25, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.5, "high": 6.0, "log": false}}'),
  (2, 2, 'y', 1.0, '{"name": "CategoricalDistribution", "attributes": {"choices": [0.3, 0.4]}}'),
  (3, 3, 'x', 5.0, '{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 6}}'),
  (4, 4, 'x', 3.0, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.5, "high": 6.0, "log": false}}'),
  (5, 5, 'x', 2.75, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.5, "high": 6.0, "log": false}}'),
  (6, 5, 'width', 8.0, '{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 1, "high": 9}}'),
  (7, 6, 'x', 2.0, '{"name": "CategoricalDistribution", "attributes": {"choices": [0.3, 0.4]}}'),
  (8, 7, 'x', 2.5, '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.5, "high": 6.0, "log": false}}');
